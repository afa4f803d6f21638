"""Checks of what every OpenEnv server does: operations, one episode on a socket, answers, errors, tools."""

from __future__ import annotations

from typing import Any

from metagame.cli.checks.deployment import (
    ANSWER_S,
    Deployment,
    Frame,
    check_state,
    check_step,
    data_of,
    step_frame,
)
from metagame.cli.checks.verdict import OPENENV, Failed, check, fail, skip

MESSAGES = ("Hello, World!", "one", "", "é", "e\u0301", "héé😀", "👩‍👩‍👧", "a\0b", "line\nbreak", "x" * 5_000)
"""Lengths that are code points, not bytes, UTF-16 units or signs on a screen; and what C would end a text at."""
AHEAD = 20
_CONTROL = ("/reset", "/step", "/state")
BAD_FRAMES: tuple[tuple[str, Frame | str, tuple[str, ...]], ...] = (
    ("that is no JSON", '{"type": "step", ', ("INVALID_JSON",)),
    ("of an unknown type", {"type": "nonsense"}, ("UNKNOWN_TYPE",)),
    ("with an unknown field", {"type": "step", "data": {"message": "x", "nonsense": 1}}, ("VALIDATION_ERROR",)),
    ("without its data", {"type": "step"}, ("VALIDATION_ERROR",)),
    ("that is an array", "[]", ("VALIDATION_ERROR", "INVALID_JSON")),
)
_PROXY = "Does the URL lead to the server, with the path that a proxy adds? See that the proxy passes this path on."
_PROXY_SOCKETS = "Is a WebSocket let through? A proxy must pass on Upgrade and Connection, and time out no idle socket."
_UPDATE = "Update the server."

_TOOLS = "If `shared-pool` fails too, mend that first: a tool is called in a session. Else update the server."


@check("health", OPENENV, "GET /health says healthy", _PROXY, plays=False)
async def health(there: Deployment) -> str:
    """The one thing that every probe asks."""
    body = (await there.http("GET", "/health")).expect(200)
    if body.get("status") != "healthy":
        fail(f"its status is {body.get('status')!r}, not 'healthy'")
    return ""


@check("metadata", OPENENV, "GET /metadata names and describes the environment", _PROXY, plays=False)
async def metadata(there: Deployment) -> str:
    """As `openenv validate` asks it."""
    body = (await there.http("GET", "/metadata")).expect(200)
    for key in ("name", "description"):
        if not isinstance(body.get(key), str):
            fail(f"its {key} is no text")
    return f"{body['name']} {body.get('version') or ''}".strip()


@check("schema", OPENENV, "GET /schema has an action with one required field", _UPDATE, plays=False)
async def schema(there: Deployment) -> str:
    """Trainers that answer in plain text put it into the one field that an action needs."""
    body = (await there.http("GET", "/schema")).expect(200)
    for key in ("action", "observation", "state"):
        if not isinstance(body.get(key), dict):
            fail(f"it has no {key}")
    required = body["action"].get("required")
    if not there.echo:
        return f"another game than echo: an action's fields are {', '.join(map(str, required or []))}"
    if not isinstance(required, list) or len(required) != 1:
        fail(f"an action's required fields are {required!r}, not one")
    return f"the action's field is {required[0]}"


@check("environments", OPENENV, "GET /list_environments names one", _PROXY, plays=False)
async def environments(there: Deployment) -> str:
    """OpenEnv's task API begins here."""
    reply = await there.http("GET", "/list_environments")
    if reply.status == 404:
        skip("not served; OpenEnv's own servers have it since 0.4.2")
    if reply.status != 200 or not isinstance(reply.body, list) or not reply.body:
        fail(f"{reply.asked} is answered with HTTP status {reply.status} and no list of names")
    return ", ".join(map(str, reply.body))


@check("mode", OPENENV, "HTTP control is there as a whole, or absent as a whole", _PROXY, plays=False)
async def mode(there: Deployment) -> str:
    """Production mode is one without /reset, /step and /state."""
    paths = (await there.http("GET", "/openapi.json")).expect(200).get("paths")
    found = [path for path in _CONTROL if isinstance(paths, dict) and path in paths]
    if found and len(found) < len(_CONTROL):
        fail(f"of {', '.join(_CONTROL)} there is only {', '.join(found)}")
    if bool(found) == there.production:
        absent = "absent" if there.production else "there"
        fail(f"GET /state is {absent}, and /openapi.json says otherwise: some workers are in another mode")
    return "production: sockets only" if there.production else "simulation"


@check("socket", OPENENV, "an episode on /ws: reset, step, state", _PROXY_SOCKETS)
async def socket(there: Deployment) -> str:
    """The first frame that comes must be the reset's answer: a greeting would shift all others by one."""
    async with there.socket() as one:
        ready = await one.reset(seed=7, episode_id="metagame-check")
        if ready.get("done") is not False:
            fail(f"the reset's done is {ready.get('done')!r}, not false")
        await one.step("Hello, World!", 1)
        check_state(await one.state(), "metagame-check", 1)
    return ""


@check("order", OPENENV, "frames sent ahead are answered in their order", _UPDATE)
async def order(there: Deployment) -> str:
    """Clients take the next frame for the next answer."""
    async with there.socket() as one:
        await one.send({"type": "reset", "data": {}})
        for number in range(1, AHEAD + 1):
            await one.send(step_frame(f"ahead {number}"))
        await one.send({"type": "state"})
        data_of(await one.receive(), "observation")
        for number in range(1, AHEAD + 1):
            check_step(data_of(await one.receive(), "observation"), f"ahead {number}", number)
        found = data_of(await one.receive(), "state").get("step_count")
    if found != AHEAD:
        fail(f"the state behind {AHEAD} steps says step_count {found}")
    return f"{AHEAD + 2} frames"


@check("rewards", OPENENV, "length is code points, reward is length / 10 exactly, step_count counts", _UPDATE)
async def rewards(there: Deployment) -> str:
    """OpenEnv's template says 0.30000000000000004 for three characters; Metagame says 0.3."""
    async with there.socket() as one:
        await one.reset()
        for number, message in enumerate(MESSAGES, 1):
            data = await one.step(message, number)
            found = (data["observation"].get("message_length"), data.get("reward"))
            expected = (len(message), len(message) / 10)
            if found != expected:
                fail(f"length and reward of {message[:20]!r} are {found}, not {expected}")
        state = await one.state()
    if state.get("step_count") != len(MESSAGES):
        fail(f"step_count is {state.get('step_count')} after {len(MESSAGES)} steps")
    return f"{len(MESSAGES)} messages"


@check("error-frames", OPENENV, "a wrong frame gets an error frame that says so", _UPDATE)
async def error_frames(there: Deployment) -> str:
    """Each on a socket of its own, so that every one is judged."""
    for which, frame, codes in BAD_FRAMES:
        async with there.socket() as one:
            try:
                await one.refused(frame, *codes)
            except Failed as wrong:
                fail(f"a frame {which}: {wrong}")
    return f"{len(BAD_FRAMES)} kinds"


@check("bad-frame", OPENENV, "a wrong frame costs an error, never the socket or its episode", _UPDATE)
async def bad_frame(there: Deployment) -> str:
    """An agent's mistake must not end its rollout."""
    async with there.socket() as one:
        await one.reset()
        for number, (which, frame, _) in enumerate(BAD_FRAMES, 1):
            try:
                await one.refused(frame)
                await one.step(f"after {which}", number)
            except Failed as wrong:
                fail(f"after a frame {which}: {wrong}")
    return ""


@check("tools", OPENENV, "agents list and call tools on /mcp, and a call is a step", _TOOLS)
async def tools(there: Deployment) -> str:
    """In a session that OpenEnv's method makes, as its MCPToolClient does."""
    listed = await rpc(there, "tools/list", {})
    if "error" in listed:
        skip(f"no tools are served: {listed['error'].get('message')}")
    found = listed.get("result", {}).get("tools")
    if not isinstance(found, list) or not found:
        fail("tools/list lists none")
    names = ", ".join(str(one.get("name")) for one in found)
    fitting = [one for one in found if (one.get("inputSchema") or {}).get("required") == ["message"]]
    if not fitting:
        return f"{names}; none takes a message, so none was called"
    session_id = there.ends(str(_result(await rpc(there, "openenv/session/create", {}))["session_id"]))
    call = {"name": fitting[0]["name"], "arguments": {"message": "a tool's"}, "session_id": session_id}
    result = _result(await rpc(there, "tools/call", call))
    if result.get("is_error") or "a tool's" not in str(result):
        fail(f"{fitting[0]['name']} does not answer with the message")
    if not there.production:
        state = (await there.http("GET", f"/sessions/{session_id}/state")).expect(200)
        if state.get("step_count") != 1:
            fail(f"the call was no step: step_count is {state.get('step_count')}", "Update the server.")
    _result(await rpc(there, "openenv/session/close", {"session_id": session_id}))
    return names


async def rpc(there: Deployment, method: str, params: dict[str, Any]) -> dict[str, Any]:
    """The answer to a JSON-RPC call; raises Skipped where nobody takes one."""
    call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    reply = await there.http("POST", "/mcp", call)
    if reply.status in {404, 405}:
        skip("/mcp is not served; OpenEnv's own servers have it since 0.2.2")
    return reply.expect(200)


def _result(answer: dict[str, Any]) -> dict[str, Any]:
    result = answer.get("result")
    if not isinstance(result, dict):
        fail(f"a call is refused: {(answer.get('error') or {}).get('message')}")
    return result


CHECKS = (
    health,
    metadata,
    schema,
    environments,
    mode,
    socket,
    order,
    rewards,
    error_frames,
    bad_frame,
    tools,
)
SLOWEST_S = 3 * ANSWER_S
"""A check that takes longer has failed."""

"""Unmodified OpenEnv clients, driven line by line: run by interpreters that have OpenEnv, not by pytest.

A line in is a JSON object of a command and its arguments; the line out is `{"result": …}` or
`{"error": "Type: text"}`. Clients have names and live as long as this process.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

Commands = dict[str, Callable[..., Any]]


def env_client() -> Commands:
    """openenv-core 0.2.1 and later: the generic client, one socket each; made synchronous where it is not."""
    from openenv.core import GenericEnvClient  # type: ignore[import-not-found]  # noqa: PLC0415 - the other interpreter has it

    async def awaited(**arguments: Any) -> Any:
        async with GenericEnvClient(**arguments) as env:
            await env.reset()
            return _step(await env.step({"message": "abc"}))

    def made(**arguments: Any) -> Any:
        env = GenericEnvClient(**arguments)
        return env.sync() if hasattr(env, "sync") else env

    def make_and_reset(**arguments: Any) -> None:
        with GenericEnvClient(**arguments).sync() as env:
            env.reset()

    def by_sync(**arguments: Any) -> Any:
        with GenericEnvClient(**arguments).sync() as env:
            env.reset()
            return _step(env.step({"message": "abc"}))

    return {
        **_named(made),
        "make_and_reset": make_and_reset,
        "straight": lambda **arguments: _straight(GenericEnvClient(**arguments)),
        "sync": by_sync,
        "async": lambda **arguments: asyncio.run(awaited(**arguments)),
    }


def http_client() -> Commands:
    """openenv-core 0.1.1: an HTTP client that posts, and keeps cookies."""
    from openenv_core.client_types import StepResult  # type: ignore[import-not-found]  # noqa: PLC0415 - the other interpreter has it
    from openenv_core.http_env_client import HTTPEnvClient  # type: ignore[import-not-found]  # noqa: PLC0415 - the other interpreter has it

    class EchoEnv(HTTPEnvClient):  # type: ignore[misc]  # its base is unknown here
        def _step_payload(self, action: Any) -> dict[str, Any]:
            return dict(action)

        def _parse_result(self, payload: dict[str, Any]) -> Any:
            return StepResult(payload["observation"], payload.get("reward"), bool(payload.get("done")))

        def _parse_state(self, payload: dict[str, Any]) -> Any:
            return payload

    def episode(base_url: str, number: int, steps: int) -> Any:
        # A connection for every request, so that a balancer sends each to another worker.
        env = EchoEnv(base_url, default_headers={"Connection": "close"})
        env.reset()
        first = env.state()
        transcript = []
        for step in range(steps):
            result = env.step({"message": "x" * (number + step)})
            state = env.state()
            transcript.append([state["step_count"], result.reward, result.observation["message_length"]])
        return {"episodes": [first["episode_id"], state["episode_id"]], "transcript": transcript}

    def episodes(base_url: str, clients: int, steps: int) -> Any:
        with ThreadPoolExecutor(clients) as threads:
            return list(threads.map(lambda number: episode(base_url, number, steps), range(clients)))

    return {
        **_named(EchoEnv),
        "episodes": episodes,
        "straight": lambda **arguments: _straight(EchoEnv(**arguments)),
        "sync": lambda **arguments: EchoEnv(**arguments).sync(),
        "async": lambda **arguments: EchoEnv(**arguments).__aenter__(),
    }


def _named(made: Callable[..., Any]) -> Commands:
    """One step after the other of clients that have names."""
    clients: dict[str, Any] = {}

    def make(name: str, **arguments: Any) -> None:
        clients[name] = made(**arguments)

    def reset(name: str, **arguments: Any) -> Any:
        return clients[name].reset(**arguments).observation["echoed_message"]

    def step(name: str, message: str = "abc") -> Any:
        return _step(clients[name].step({"message": message}))

    def state(name: str) -> Any:
        stands = clients[name].state()
        return [stands["episode_id"], stands["step_count"]]

    def reconnect(name: str) -> None:
        clients[name].disconnect()
        clients[name].connect()

    def close(name: str) -> None:
        clients.pop(name).close()

    return {"make": make, "reset": reset, "step": step, "state": state, "reconnect": reconnect, "close": close}


def _straight(env: Any) -> Any:
    """An episode as the first examples have it: neither `with` nor `await`."""
    env.reset()
    answered = _step(env.step({"message": "abc"}))
    env.close()
    return answered


def _step(result: Any) -> Any:
    return [result.observation["metadata"]["step"], result.reward]


def main(which: str) -> None:
    """Serve commands until the input ends."""
    commands = {"env_client": env_client, "http_client": http_client}[which]()
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    for line in sys.stdin:
        arguments = json.loads(line)
        try:
            answer = {"result": commands[arguments.pop("command")](**arguments)}
        except Exception as error:  # noqa: BLE001 - whatever it raises is what the test asks about
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])

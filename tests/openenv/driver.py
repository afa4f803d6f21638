"""What is done with OpenEnv's own library and ours beside it: run by the interpreter that has OpenEnv, not by pytest.

python driver.py NAME ARGUMENTS     calls a function here with a JSON list; the last line out is its result
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
STEPS_BETWEEN = 50


def discovered() -> Any:
    """What AutoEnv and AutoAction know, by every form of the name."""
    from openenv import AutoAction, AutoEnv  # type: ignore[import-not-found]
    from openenv.auto._discovery import get_discovery  # type: ignore[import-not-found]

    info = AutoEnv.get_env_info("meta_game")
    return {
        "keys": sorted(get_discovery().discover()),
        "info": {name: info[name] for name in ("name", "package", "version", "description", "default_image")},
        "clients": [f"{(c := AutoEnv.get_env_class(n)).__module__}.{c.__name__}" for n in NAMES],
        "actions": [f"{(a := AutoAction.from_env(n)).__module__}.{a.__name__}" for n in NAMES],
    }


NAMES = ["meta_game", "meta-game", "meta_game_env", "meta-game-env"]


def played_by_auto(url: str) -> Any:
    """Episodes as OpenEnv's documentation plays them with what AutoEnv returns."""
    from openenv import AutoAction, AutoEnv
    from openenv.core import EnvClient  # type: ignore[import-not-found]

    action = AutoAction.from_env("meta_game")
    rewards = []
    env = AutoEnv.from_env("meta_game", base_url=url)
    kinds = [isinstance(env, EnvClient), type(env).__module__]
    with env.sync() as client:
        client.reset()
        rewards.append(client.step(action(message="sync")).reward)
    env = AutoEnv.from_env("meta-game", base_url=url, session_id="auto")
    env.reset(seed=1)
    rewards.append(env.step(action(message="straight")).reward)
    env.close()

    async def asynchronous() -> None:
        env = AutoEnv.from_env("meta_game_env", base_url=url)
        async with env as client:
            await client.reset()
            rewards.append((await client.step(action(message="async"))).reward)

    asyncio.run(asynchronous())
    return {"kinds": kinds, "rewards": rewards}


def started_by_auto(port: int) -> Any:
    """AutoEnv with a provider of one's own, which starts a server: what it does with an image."""
    from openenv import AutoEnv

    provider = _Processes(port)
    rewards = []
    with AutoEnv.from_env("meta_game", container_provider=provider).sync() as env:
        rewards.append(_play(env))
    env = AutoEnv.from_env("meta_game", container_provider=provider)
    rewards.append(_play(env))
    env.close()
    return {"images": provider.images, "rewards": rewards, "running": provider.running}


def bootstrapped(port: int) -> Any:
    """The handle of from_docker_image, as three generations of examples use it."""
    from metagame.openenv import MetaGameEnv

    told: dict[str, Any] = {}
    provider = _Processes(port)

    def handle() -> Any:
        return MetaGameEnv.from_docker_image("image:latest", provider=provider)

    def note(how: str, reward: Any) -> None:
        told[how] = [reward, provider.running]

    env = handle()
    env.close()
    note("never used", None)

    env = handle()
    note("straight", _play(env))
    env.close()
    note("straight, closed", None)

    with handle() as env:
        note("with", _play(env))

    env = handle().sync()
    note("sync", _play(env))
    env.close()

    async def awaited() -> None:
        env = await handle()
        await env.reset()
        note("awaited", (await env.step({"message": "abc"})).reward)
        await env.close()

    asyncio.run(awaited())

    env = asyncio.run(_as_is(handle()))
    note("run, then sync", _play(env.sync()))
    env.sync().close()

    async def in_threads() -> None:
        env = handle()
        await asyncio.to_thread(env.reset)
        note("from a loop's threads", (await asyncio.to_thread(env.step, {"message": "abc"})).reward)
        await asyncio.to_thread(env.close)

    asyncio.run(in_threads())

    async def in_a_notebook() -> None:
        env = handle()
        note("in a running loop", _play(env))
        env.close()

    asyncio.run(in_a_notebook())

    env = handle()
    with ThreadPoolExecutor(4) as threads:
        told["address from four threads"] = len(set(threads.map(lambda _: env.base_url, range(4))))
    note("four threads", _play(env))
    env.close()
    told["started"] = len(provider.images)
    told["left running"] = provider.running
    return told


def contained(image: str) -> Any:
    """The same handle with OpenEnv's own provider, on a real engine."""
    from metagame.openenv import MetaGameEnv

    played = []
    env = MetaGameEnv.from_docker_image(image)
    played.append(["straight", _play(env)])
    env.close()
    with MetaGameEnv.from_docker_image(image).sync() as synchronous:
        played.append(["sync", _play(synchronous)])

    async def awaited() -> None:
        env = await MetaGameEnv.from_docker_image(image)
        await env.reset()
        played.append(["awaited", (await env.step({"message": "abc"})).reward])
        await env.close()

    asyncio.run(awaited())
    return played


def resumed(url: str, pid: int, worker: list[str], kills: int) -> Any:
    """Steps taken without a pause while the worker is killed and started again, and where they end."""
    from metagame.openenv import MetaGameAction, MetaGameEnv

    env = MetaGameEnv(base_url=url)
    env.reset(episode_id="mine")
    steps: list[int] = []
    started: list[subprocess.Popen[bytes]] = []

    def goes_on() -> None:
        until = len(steps) + STEPS_BETWEEN
        while len(steps) < until:
            time.sleep(0.005)

    def kill_and_start() -> None:
        for _ in range(kills):
            goes_on()
            os.kill(started[-1].pid if started else pid, signal.SIGKILL)
            quiet = subprocess.DEVNULL
            started.append(subprocess.Popen(worker, cwd=CHECKOUT, stdout=quiet, stderr=quiet))
            atexit.register(started[-1].kill)
        goes_on()

    killing = threading.Thread(target=kill_and_start)
    killing.start()
    while killing.is_alive():
        steps.append(env.step(MetaGameAction(message="abc")).metadata["step"])
    state = env.state()
    env.close()
    for server in started:
        server.kill()
        server.wait()
    return {"steps": steps, "state": [state.episode_id, state.step_count]}


def cut_off(url: str, pid: int) -> Any:
    """A step that its caller gave up while the server hung; then a step, where the session stands, and another step."""
    from metagame.openenv import MetaGameEnv

    async def play() -> Any:
        async with MetaGameEnv(base_url=url) as env:
            await env.reset()
            os.kill(pid, signal.SIGSTOP)
            try:
                await asyncio.wait_for(env.step({"message": "late"}), 0.3)
            except TimeoutError as error:
                gave_up = type(error).__name__
            finally:
                os.kill(pid, signal.SIGCONT)
            try:
                await env.step({"message": "blind"})
            except RuntimeError as error:
                refused = type(error.__cause__).__name__
            stands = (await env.state()).step_count
            return [gave_up, refused, stands in {0, 1}, (await env.step({"message": "next"})).metadata["step"] - stands]

    return asyncio.run(play())


def told_what_is_wrong(url: str) -> Any:
    """Errors as they are raised: the type, the text, and the type of the cause."""
    from metagame.openenv import MetaGameEnv

    def raised(call: Any) -> list[str]:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - whatever it raises is what the test asks about
            return [type(error).__name__, str(error), type(error.__cause__).__name__]
        return []

    env, nowhere = MetaGameEnv(base_url=url), MetaGameEnv(base_url="http://127.0.0.1:1", deadline_s=0.2)
    other = MetaGameEnv(base_url=url, session_id="one")
    newer = MetaGameEnv(base_url=url, session_id="one")
    other.reset()
    newer.state()
    told = {
        "no episode": raised(lambda: env.step({"message": "x"})),
        "no server": raised(nowhere.reset),
        "no action": raised(lambda: env.step({"massage": "x"})),
        "taken over": raised(lambda: other.step({"message": "x"})),
        "goes on": [newer.step({"message": "x"}).metadata["step"]],
    }
    for client in (env, other, newer):
        client.close()
    return told


def keyed(url: str, key: str, wrong: str) -> Any:
    """What a client with an API key is answered, a child of it, and what one with a wrong key raises."""
    from metagame.openenv import MetaGameEnv

    env, refused = MetaGameEnv(base_url=url, api_key=key), MetaGameEnv(base_url=url, api_key=wrong)
    env.reset()
    child = env.sync().new_session()
    child.reset()
    told: list[Any] = [one.step({"message": "abc"}).reward for one in (env, child)]
    env.close()
    try:
        refused.reset()
    except Exception as error:  # noqa: BLE001 - whatever it raises is what the test asks about
        told.append([type(error).__name__, type(error.__cause__).__name__])
    return told


def used_in_every_way(url: str) -> Any:
    """What comes back, for the types and the numbers."""
    from openenv.core import EnvClient
    from openenv.core.client_types import StepResult  # type: ignore[import-not-found]

    from metagame.openenv import MetaGameAction, MetaGameEnv, MetaGameObservation, MetaGameState

    env = MetaGameEnv(base_url=url.removeprefix("http://"))
    ready, result, state = env.reset(seed=3), env.step(MetaGameAction(message="héé😀")), env.state()
    child = env.sync().new_session()
    child.reset()
    told = {
        "types": [
            isinstance(env, EnvClient),
            isinstance(result, StepResult),
            isinstance(result.observation, MetaGameObservation),
            isinstance(state, MetaGameState),
        ],
        "ready": ready.observation.echoed_message,
        "step": [result.reward, result.observation.reward, result.observation.message_length, result.metadata["step"]],
        "state": state.step_count,
        "child": [child.step({"message": "x"}).metadata["step"], env.state().step_count],
        "sessions": len({env.session_id, child.async_client.session_id}),
    }
    env.close()
    told["after close"] = env.session_id

    async def many() -> list[Any]:
        async def one(number: int) -> Any:
            async with MetaGameEnv(base_url=url) as env:
                await env.reset()
                return [(await env.step({"message": "x" * number})).reward for _ in range(3)]

        return await asyncio.gather(*(one(number) for number in range(8)))

    told["many"] = asyncio.run(many())
    return told


def validated(folder: str, url: str) -> Any:
    """Each check of the runtime level of `openenv validate` on a server that runs already, by name."""
    from openenv.validation import Level, run_validation  # type: ignore[import-not-found]
    from openenv.validation.types import ProviderCapability  # type: ignore[import-not-found]

    class Running:
        base_url = url

        def inspect(self) -> dict[str, Any]:
            return {}

        def stop(self) -> None:
            """It is not ours to stop."""

    class Provider:
        name = "running"
        capabilities = frozenset({ProviderCapability.IMAGE_BUILD})
        supported_network_modes = frozenset({"public"})

        def build(self, *_: Any) -> str:
            return "sha256:" + "0" * 64

        def start(self, _: Any) -> Running:
            return Running()

    report = run_validation(Path(folder), max_level=Level.RUNTIME, provider=Provider())
    return {"verdict": report.verdict.value} | {one.check_id: one.status.value for one in report.results}


def provided(folder: str) -> Any:
    """A server by OpenEnv's UVProvider, as verifiers starts one; and what a generic client gets from it."""
    from openenv.core import GenericEnvClient
    from openenv.core.containers.runtime import UVProvider  # type: ignore[import-not-found]

    provider = UVProvider(project_path=folder, host="127.0.0.1", context_timeout_s=200)
    url = provider.start()
    try:
        provider.wait_for_ready()
        with GenericEnvClient(base_url=url).sync() as env:
            return [env.reset().observation["echoed_message"], env.step({"message": "abc"}).reward]
    finally:
        provider.stop()


async def _as_is(handle: Any) -> Any:
    return await handle


def _play(env: Any) -> Any:
    env.reset()
    return env.step({"message": "abc"}).reward


class _Processes:
    """A container provider whose containers are servers of this checkout, on one port."""

    def __init__(self, port: int) -> None:
        self.images: list[str] = []
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self._end)

    @property
    def running(self) -> bool:
        return self._process is not None

    def start_container(self, image: str, **_: Any) -> str:
        self.images.append(image)
        python = os.environ["METAGAME_PYTHON"]
        self._process = subprocess.Popen(
            [python, "-m", "services.app"],
            cwd=CHECKOUT,
            env=os.environ | {"PORT": str(self._port)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        return f"http://127.0.0.1:{self._port}"

    def wait_for_ready(self, *_: Any) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        assert b" on http://" in self._process.stdout.readline()

    def stop_container(self) -> None:
        assert self._process is not None
        self._end()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


if __name__ == "__main__":
    result = globals()[sys.argv[1]](*json.loads(sys.argv[2]))
    print(json.dumps(result))

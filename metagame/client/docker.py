"""A server in a container that this process starts: `docker run`, ready or a reason, and the end.

Everything goes through the `docker` command, so that whatever engine and context it is set up for
is used. That the container ends with this process is the reaper's work (reaper.py).
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from typing import Any
from uuid import uuid4

from metagame.client.options import ClientKeywords, ClientOptions
from metagame.client.reaper import Ended, Reaper
from metagame.client.shapes import clause
from metagame.errors import ContainerFailed, InvalidRequest

PID_LABEL = "metagame.client-pid"
"""Names the process a container belongs to, so that one can be found: docker ps --filter label=metagame.client-pid"""
LOG_LINES = 20
_ASK_TIMEOUT_S = 30.0
_PROBE_TIMEOUT_S = 2.0
_PROBE_EVERY_S = 0.1
_LOOK_EVERY = 5
"""Probes between two questions to the engine, which cost more."""
_PORT = "8000/tcp"
_IMAGE = re.compile(r"[A-Za-z0-9][\w./:@-]*")
_NAME = re.compile(r"[A-Za-z_][\w.-]*")
_BESIDES = re.compile(r"[0-9a-f]{64}|Run 'docker .*--help'.*|See 'docker .*--help'.*")
"""What `docker run` writes beside its error: the container's id, and where to read on."""
_OURS = ("METAGAME_HOST", "METAGAME_PORT", "PORT")


class Cause(StrEnum):
    """What a ContainerFailed says in its field `cause`."""

    DOCKER_MISSING = "docker_missing"
    ENGINE_UNREACHABLE = "engine_unreachable"
    IMAGE_MISSING = "image_missing"
    PORT_TAKEN = "port_taken"
    NOT_STARTED = "not_started"
    EXITED = "exited"
    NOT_READY = "not_ready"
    OTHER_SERVER = "other_server"
    NOT_REMOVED = "not_removed"


@dataclass(frozen=True, slots=True)
class Order:
    """What to start; see AsyncGameEnv.from_docker_image."""

    image: str
    port: int | None
    env_vars: Mapping[str, str] | None
    ready_timeout_s: float

    def check(self, provider: object, client: ClientKeywords) -> None:
        """Refuse what cannot be, before anything is started; raises InvalidRequest."""
        if provider is not None:
            message = (
                "from_docker_image takes no provider: it runs the `docker` command."
                " Start the container by other means and pass its address: MetaGameEnv(base_url=...)."
            )
            raise InvalidRequest(message)
        if unknown := sorted(client.keys() - ClientKeywords.__annotations__.keys()):
            known = ", ".join(["port", "env_vars", "ready_timeout_s", *ClientKeywords.__annotations__])
            message = f"from_docker_image does not take {', '.join(unknown)}. It takes {known}."
            raise InvalidRequest(message)
        if not isinstance(client.get("transport", ""), str):
            message = "transport is 'websocket' or 'http' here: the address is known only once the container runs."
            raise InvalidRequest(message)
        ClientOptions(**client).open()
        if not isinstance(self.image, str) or not _IMAGE.fullmatch(self.image):
            message = f"image is {self.image!r}, which is no image's name. It looks like 'meta_game-env:latest'."
            raise InvalidRequest(message)
        if self.port is not None and not (type(self.port) is int and 0 < self.port < 65536):
            message = f"port is {self.port!r}; it is a number from 1 to 65535, or left out for a free one."
            raise InvalidRequest(message)
        if not self.ready_timeout_s > 0:
            message = f"ready_timeout_s is {self.ready_timeout_s!r}; it is a number of seconds above 0."
            raise InvalidRequest(message)
        if not isinstance(self.env_vars, Mapping | None):
            message = f"env_vars is {self.env_vars!r}; it is a dict of names and values."
            raise InvalidRequest(message)
        for name, value in (self.env_vars or {}).items():
            _check_variable(name, value)


class Container:
    """A running container of ours, and the address where its server is ready."""

    def __init__(self, docker: str, order: Order) -> None:
        self.base_url = ""
        self._docker = docker
        self._order = order
        self._name = f"metagame-{uuid4().hex[:12]}"
        published = f"127.0.0.1:{order.port or ''}:{_PORT.removesuffix('/tcp')}"
        options = ["--detach", "--pull", "never", "--label", f"{PID_LABEL}={os.getpid()}"]
        self._reaper = Reaper(docker, self._name, [*options, "--publish", published, order.image], order.env_vars or {})

    def wait_until_ready(self, deadline: float, given_up: threading.Event) -> None:
        """Return once the server is ready at `base_url`; raises ContainerFailed by the deadline (monotonic)."""
        try:
            started = self._reaper.started(deadline, given_up)
        except Ended:
            self._remove()
            raise self._failed(Cause.NOT_STARTED, "the shell that starts it was killed") from None
        if started is None:
            raise self._failed(Cause.NOT_READY, f"`docker run` did not return within {self._order.ready_timeout_s:g} s")
        code, said = started
        if code:
            raise self._not_started(code, said)
        seen = "no answer"
        for probe in count():
            if probe % _LOOK_EVERY == 0:
                self._look()
            status, seen = _ask_ready(self.base_url)
            if status == http.HTTPStatus.OK:
                return
            if status == http.HTTPStatus.NOT_FOUND:
                raise self._failed(Cause.OTHER_SERVER, "its server knows no /ready, so it is not Metagame's")
            if time.monotonic() > deadline or given_up.wait(_PROBE_EVERY_S):
                break
        raise self._not_ready(seen)

    async def ended(self) -> ContainerFailed | None:
        """Why it runs no more, if so: its sessions are gone with it, and sending again cannot help."""
        try:
            await asyncio.to_thread(self._look)
        except ContainerFailed as failed:
            return failed if failed.cause == Cause.EXITED else None
        return None

    def let_go(self) -> None:
        """Have it removed, without waiting for it."""
        self._reaper.let_go()

    def close(self) -> None:
        """Remove it; again is no error, and in a forked child nothing is done. Raises ContainerFailed."""
        if self._reaper.close() is not None and (said := self._remove()):
            what = f"docker did not remove it: {said}\nTo remove it by hand: docker rm --force {self._name}"
            raise self._failed(Cause.NOT_REMOVED, what, log="")

    def _remove(self) -> str:
        """Remove it without the reaper, which somebody killed or which failed; what docker said if it did not."""
        asked = _ask(self._docker, "rm", "--force", "--volumes", self._name)
        gone = asked.returncode == 0 or "No such container" in asked.stderr
        return "" if gone else asked.stderr.strip()

    def _look(self) -> None:
        """Learn the port; raises ContainerFailed if the container does not run any more."""
        form = "{{json .State}}\n{{json .NetworkSettings.Ports}}"
        asked = _ask(self._docker, "container", "inspect", "--format", form, self._name)
        if asked.returncode and "No such container" in asked.stderr:
            raise self._failed(Cause.EXITED, "somebody removed it", log="")
        if asked.returncode:
            raise _unreachable(asked.stderr.strip(), self._order.image)
        state, ports = (json.loads(line) for line in asked.stdout.splitlines())
        if state["Status"] in {"exited", "dead", "removing"}:
            raise self._failed(
                Cause.EXITED, f"it ended with exit code {state['ExitCode']}", exit_code=state["ExitCode"]
            )
        if published := (ports or {}).get(_PORT):
            self.base_url = f"http://127.0.0.1:{published[0]['HostPort']}"

    def _not_started(self, code: int, said: str) -> ContainerFailed:
        said = "\n".join(line for line in said.splitlines() if line and not _BESIDES.fullmatch(line))
        what = f"`docker run` failed ({code}): {said.removeprefix('docker: ')}"
        if re.search(r"already (allocated|in use)", said) is None:
            return self._failed(Cause.NOT_STARTED, what)
        return self._failed(Cause.PORT_TAKEN, f"{what}\nChoose another port=, or leave it out for a free one")

    def _not_ready(self, seen: str) -> ContainerFailed:
        self._look()
        what = (
            f"it was not ready at {self.base_url}/ready within {self._order.ready_timeout_s:g} s ({seen})."
            " Give it longer by ready_timeout_s=, or see what it does: docker run --rm -p 8000:8000"
            f" {self._order.image}. If the engine is on another machine, its ports are there:"
            " start the container there, and pass its address as base_url"
        )
        return self._failed(Cause.NOT_READY, what)

    def _failed(self, cause: Cause, what: str, *, log: str | None = None, **fields: Any) -> ContainerFailed:
        if log is None:
            asked = _ask(self._docker, "logs", "--tail", str(LOG_LINES), self._name, merged=True)
            log = asked.stdout.strip() if asked.returncode == 0 else ""
        shown = "".join(f"\n    {line}" for line in log.splitlines())
        message = f"The container of {self._order.image}: {clause(what)}." + (
            f" The end of its log:{shown}" if shown else ""
        )
        return ContainerFailed(message, cause=cause, image=self._order.image, log=log, **fields)


def start(order: Order, given_up: threading.Event | None = None) -> Container:
    """A container whose server is ready. Raises ContainerFailed, and then leaves none behind."""
    deadline = time.monotonic() + order.ready_timeout_s
    docker = shutil.which("docker")
    if docker is None:
        message = (
            "from_docker_image runs the `docker` command, and there is none on the PATH."
            " Install Docker, or start a server without it: `metagame serve`, and MetaGameEnv()."
        )
        raise ContainerFailed(message, cause=Cause.DOCKER_MISSING, image=order.image)
    _find_image(docker, order.image)
    container = Container(docker, order)
    try:
        container.wait_until_ready(deadline, given_up or threading.Event())
    except BaseException:
        container.let_go()
        raise
    return container


async def start_beside_the_loop(order: Order) -> Container:
    """The same on a thread of its own; cancelled, it leaves no container behind either."""
    given_up = threading.Event()
    with_one_thread = ThreadPoolExecutor(1, thread_name_prefix="metagame-docker")
    starting = with_one_thread.submit(start, order, given_up)
    with_one_thread.shutdown(wait=False)
    try:
        return await asyncio.wrap_future(starting)
    except asyncio.CancelledError:
        given_up.set()
        starting.add_done_callback(_let_go)
        raise


def _let_go(starting: Future[Container]) -> None:
    if not starting.cancelled() and starting.exception() is None:
        starting.result().let_go()


def _find_image(docker: str, image: str) -> None:
    """Raises ContainerFailed unless the engine has the image: nothing is pulled unasked."""
    asked = _ask(docker, "image", "inspect", "--format", "{{.Id}}", image)
    if asked.returncode == 0:
        return
    said = asked.stderr.strip()
    if "No such image" in said:
        message = (
            f"This Docker engine has no image {image}. Build it in a checkout of Metagame:"
            f" docker build -t {image} -f deploy/Dockerfile . (or, if a registry has it: docker pull {image})"
        )
        raise ContainerFailed(message, cause=Cause.IMAGE_MISSING, image=image)
    if "invalid reference" in said:
        message = f"image is {image!r}, which docker does not take for a name: {said}"
        raise InvalidRequest(message)
    raise _unreachable(said, image)


def _unreachable(said: str, image: str) -> ContainerFailed:
    message = (
        f"The Docker engine cannot be reached: {clause(said)}."
        " Start it, or name another by DOCKER_HOST; `docker info` shows whether it answers."
    )
    return ContainerFailed(message, cause=Cause.ENGINE_UNREACHABLE, image=image)


def _ask(docker: str, *arguments: str, merged: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a docker command that only reads; a hanging engine fails it."""
    try:
        return subprocess.run(  # noqa: S603 - arguments are checked, and there is no shell
            [docker, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merged else subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
            timeout=_ASK_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        said = f"no answer to `docker {arguments[0]}` in {_ASK_TIMEOUT_S:g} s."
        return subprocess.CompletedProcess(arguments, 1, "", said)


def _ask_ready(base_url: str) -> tuple[int, str]:
    """The status of /ready, or 0, and what was seen in words."""
    if not base_url:
        return 0, "no port published yet"
    connection = http.client.HTTPConnection(base_url.removeprefix("http://"), timeout=_PROBE_TIMEOUT_S)
    try:
        connection.request("GET", "/ready")
        response = connection.getresponse()
        said = response.read(200).decode(errors="replace")
    except (OSError, http.client.HTTPException) as wrong:
        return 0, str(wrong) or type(wrong).__name__
    finally:
        connection.close()
    return response.status, f"HTTP status {response.status} {said}".strip()


def _check_variable(name: object, value: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        message = f"env_vars names {name!r}, which is no variable's name. It looks like METAGAME_LOG_FORMAT."
        raise InvalidRequest(message)
    if name in _OURS:
        message = f"env_vars sets {name}, but where the server listens inside is fixed. port= chooses the port outside."
        raise InvalidRequest(message)
    if not isinstance(value, str) or re.search(r"[\n\r\0\ud800-\udfff]", value):
        message = f"env_vars sets {name} to what is not one line of text. Pass a string, such as '2'."
        raise InvalidRequest(message)

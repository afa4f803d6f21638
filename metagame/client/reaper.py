"""What makes a container end with the process that started it, however that process ends.

Each container has a reaper: a small shell in a session of its own, which starts the container, waits
until the pipe that this process holds is closed, and then removes the container. The kernel closes
the pipe when the process dies, of SIGKILL too, so letting go, closing and crashing are one way out.
The shell starts the container itself, so that no instant exists in which one runs without a reaper.
Only what kills the shell as well, such as the end of a whole cgroup, leaves a container behind.
"""

from __future__ import annotations

import atexit
import os
import selectors
import subprocess
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress

_SCRIPT = """
trap '' HUP INT TERM PIPE
docker=$1 name=$2
shift 2
environment=
while IFS= read -r line && [ -n "$line" ]; do
    environment="$environment$line
"
done
said=$(printf %s "$environment" | "$docker" run --name "$name" --env-file /dev/stdin "$@" 2>&1)
printf '%s\\n%s\\0' "$said" "$?"
while read -r line; do :; done
for attempt in 1 2 3 4 5; do
    said=$("$docker" rm --force --volumes "$name" 2>&1) && exit 0
    case $said in *"No such container"*) exit 0 ;; esac
    sleep 1
done
printf %s "$said"
exit 1
"""
"""Gets the environment on its input, up to an empty line, so that no process list shows it."""

REMOVAL_TIMEOUT_S = 30.0
EXIT_TIMEOUT_S = 10.0
_PATIENCE_S = 0.1
_CHUNK_BYTES = 65_536


class Ended(Exception):
    """The reaper ended before it said what became of the start."""


class Reaper:
    """Runs one container for as long as this process holds it; `arguments` are those of `docker run`.

    In a forked child it does nothing: the container is the parent's. One that is garbage
    collected lets its container go.
    """

    def __init__(self, docker: str, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self._pid = os.getpid()
        self._closing = threading.Lock()
        read_end = _pipes.open(name)
        try:
            # The shell is killed by nobody's Ctrl-C and holds only its own end: pipes are not inherited.
            self._process = subprocess.Popen(  # noqa: S603 - a script of our own
                ["/bin/sh", "-c", _SCRIPT, "metagame-reaper", docker, name, *arguments],
                stdin=read_end,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                start_new_session=True,
            )
        except BaseException:
            _pipes.let_go(name)
            raise
        finally:
            os.close(read_end)  # before anything is sent: to a shell that is dead, that would wait for ever
        try:
            _pipes.send(name, self._process, "".join(f"{key}={value}\n" for key, value in environment.items()) + "\n")
        except BaseException:
            _pipes.let_go(name)
            raise
        weakref.finalize(self, _pipes.let_go, name).atexit = False

    def started(self, deadline: float, given_up: threading.Event) -> tuple[int, str] | None:
        """The exit code of `docker run` and what it wrote; None at the deadline (monotonic), or when given up."""
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        said = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not said.endswith(b"\0"):
                if time.monotonic() > deadline or given_up.is_set():
                    return None
                if selector.select(_PATIENCE_S):
                    if not (chunk := os.read(self._process.stdout.fileno(), _CHUNK_BYTES)):
                        raise Ended
                    said += chunk
        text, _, code = said[:-1].decode(errors="replace").rpartition("\n")
        return int(code), text.strip()

    def let_go(self) -> None:
        """Have the container removed, without waiting for it; again is no error."""
        if self._pid == os.getpid():
            _pipes.let_go(self.name)

    def close(self) -> str | None:
        """Let go and wait until the container is gone; None, or what docker said instead."""
        if self._pid != os.getpid():
            return None
        _pipes.let_go(self.name)
        with self._closing:
            if self._process.stdout is None or self._process.stdout.closed:
                return None
            try:
                said, _ = self._process.communicate(timeout=REMOVAL_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                return f"no answer in {REMOVAL_TIMEOUT_S:g} s"
        return said.decode(errors="replace").strip() if self._process.returncode else None


class _Pipes:
    """Our ends of the pipes, by container, and the shells at the others.

    Forks wait while a pipe is made, and close every one of them in the child, so that no child
    keeps a container alive.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a garbage collection may let go of one while another is made
        self._ends: dict[str, int] = {}
        self._shells: dict[str, subprocess.Popen[bytes]] = {}
        os.register_at_fork(
            before=self._lock.acquire, after_in_parent=self._lock.release, after_in_child=self._forget_all
        )
        atexit.register(self._leave)

    def open(self, name: str) -> int:
        """A new pipe; returns the other end, which is the caller's to close."""
        with self._lock:
            self._forget_the_finished()
            read_end, self._ends[name] = os.pipe()
            return read_end

    def send(self, name: str, shell: subprocess.Popen[bytes], text: str) -> None:
        """Hand text to the shell, which holds the other end by now; that it is dead shows in its output."""
        with self._lock:
            self._shells[name] = shell
            end = self._ends[name]
        rest = memoryview(text.encode())
        with suppress(BrokenPipeError):
            while rest:
                rest = rest[os.write(end, rest) :]

    def let_go(self, name: str) -> None:
        """Close our end, once."""
        with self._lock:
            if (end := self._ends.pop(name, None)) is not None:
                os.close(end)

    def _forget_the_finished(self) -> None:
        for name, shell in list(self._shells.items()):
            if name not in self._ends and shell.poll() is not None:
                _close_output(self._shells.pop(name))

    def _forget_all(self) -> None:
        """In a forked child: close the copies, and own no shell."""
        for end in self._ends.values():
            os.close(end)
        for shell in self._shells.values():
            shell.returncode = 0  # the parent's, and the parent waits for it
            _close_output(shell)
        self._ends.clear()
        self._shells.clear()
        self._lock.release()

    def _leave(self) -> None:
        """At the interpreter's end: let go of all, and wait a moment, so that they are gone when it is."""
        for name in list(self._ends):
            self.let_go(name)
        deadline = time.monotonic() + EXIT_TIMEOUT_S
        for shell in self._shells.values():
            try:
                shell.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                shell.returncode = 0  # it goes on by itself
            _close_output(shell)


def _close_output(shell: subprocess.Popen[bytes]) -> None:
    if shell.stdout is not None:
        shell.stdout.close()


_pipes = _Pipes()

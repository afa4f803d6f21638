"""Running under uvicorn, with the socket and protocol settings that sessions need."""

from __future__ import annotations

import math
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import uvicorn

from metagame.limits import allow_open_files

from . import logs
from .meter.meter import shared_folder
from .settings import PREFIX, Settings, SettingsError, hide_password
from .supervisor import NAME, Supervisor
from .surfaces.operators import NotesPeer
from .surfaces.protocol import SocketProtocol

KEEPALIVE_IDLE_S = 60
KEEPALIVE_INTERVAL_S = 15
KEEPALIVE_PROBES = 4
STOPPING = (signal.SIGINT, signal.SIGTERM)
BACKLOG = 4096
"""Connections that may wait to be accepted, as many as Linux allows unless told otherwise: clients come all at once."""
EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - whoever set it meant it
KEPT_ALIVE_S = 75
"""Longer than a balancer keeps an idle connection, so that it never sends on one just closed."""


class Config(uvicorn.Config):
    """uvicorn's, which knows an operator's connection from one that only says so."""

    def load(self) -> None:
        """Load the app, and stand before what replaces addresses by headers."""
        super().load()
        self.loaded_app = NotesPeer(self.loaded_app)


class Server(uvicorn.Server):
    """uvicorn's, which takes the signals that waited for it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Have them stop the server from here on."""
        with super().capture_signals():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
            yield


def config_of(settings: Settings, app: str) -> uvicorn.Config:
    """How the app (an import string) is served."""
    return Config(
        app,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        loop="uvloop",
        http="httptools",
        ws=SocketProtocol,
        ws_max_size=settings.max_frame_bytes,
        # Dead peers are found by TCP keepalive: a trainer's blocked event loop answers no ping for minutes.
        ws_ping_interval=None,
        ws_per_message_deflate=False,
        backlog=BACKLOG,
        access_log=False,
        server_header=False,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        log_level="warning",
        timeout_keep_alive=KEPT_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(settings.drain_timeout_s) + 1,  # the lifecycle's own deadline comes first
    )


def serve(settings: Settings, app: str) -> int:
    """Serve the app (an import string) until a signal; returns an exit code, or raises SettingsError."""
    config = config_of(settings, app)
    allow_open_files()
    listener = listen(settings)
    host, port = listener.getsockname()[:2]
    if settings.workers == 1:
        # Until the server listens to signals one that comes waits: what a handler raises while a module is imported
        # may be lost in a callback of Python's own, and the signal with it.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    people = sys.stdout.isatty() and settings.log_format != "json"
    print(announced(settings, host, port, terminal=people), flush=True)  # noqa: T201 - the command's output
    if settings.workers > 1:
        with _shared_folder():
            logs.configure(settings.log_format, NAME)
            Supervisor(config, sockets=[listener]).run()
        return 0
    # uvicorn raises the signal that stopped it once more when all is done: the way out, and no failure.
    for number in STOPPING:
        signal.signal(number, lambda *_: sys.exit(0))
    Server(config).run(sockets=[listener])
    return 0


def announced(settings: Settings, host: str, port: int, *, terminal: bool) -> str:
    """Where things are: one line for programs and logs, a few on a terminal; never a password.

    The first line has " on " and the address behind it, which is what programs wait for.
    """
    serving = f"metagame: serving on {url_of(host, port)}"
    store = "this process's memory" if settings.redis_url is None else hide_password(settings.redis_url)
    workers = f"{settings.workers} worker{'' if settings.workers == 1 else 's'}"
    if not terminal:
        names = {"page": "/web"} if settings.web else {}
        names |= {"docs": "/docs", "metrics": "/metrics", "pool": "/pool"}
        paths = ", ".join(f"{name} at {settings.root_path or ''}{path}" for name, path in names.items())
        return f"{serving}  ({paths}; {workers}, sessions in {store}; Ctrl-C stops)"
    # Links that can be opened here: nobody is reached at the address that stands for all of them.
    here = url_of("localhost" if host in EVERY_ADDRESS else host, port) + (settings.root_path or "")
    rows = (
        *((("page", f"{here}/web"),) if settings.web else ()),
        ("API docs", f"{here}/docs"),
        ("metrics", f"{here}/metrics"),
        ("pool", f"metagame pool watch {here}"),
        ("sessions", f"in {store}"),
        ("workers", f"{settings.workers}"),
    )
    return "\n".join([serving, *(f"  {name:<10}{what}" for name, what in rows), "Ctrl-C stops."])


@contextmanager
def _shared_folder() -> Iterator[None]:
    """Where the workers' counts are; raises SettingsError where no folder can be made."""
    with ExitStack() as stack:
        try:
            stack.enter_context(shared_folder())
        except OSError as wrong:
            message = (
                f"cannot make a folder for what the workers count: {wrong.strerror}."
                " Set TMPDIR to a folder that can be written to, or use one worker."
            )
            raise SettingsError(message) from None
        yield


def url_of(host: str, port: int) -> str:
    """The address as URLs write it."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def listen(settings: Settings) -> socket.socket:
    """The listening socket; raises SettingsError where the address cannot be had."""
    listener = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as wrong:
        listener.close()
        message = (
            f"cannot listen on {settings.host} port {settings.port}: {wrong.strerror}."
            f" Choose others by --host and --port, or {PREFIX}HOST and {PREFIX}PORT."
        )
        raise SettingsError(message) from None
    listener.set_inheritable(True)
    keep_alive(listener)
    listener.listen(BACKLOG)  # already now: who reads the line that it serves, may connect
    return listener


def keep_alive(listener: socket.socket) -> None:
    """Have accepted connections, which inherit from the listener, find out dead peers within two minutes."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    idle = getattr(socket, "TCP_KEEPIDLE", None) or getattr(socket, "TCP_KEEPALIVE", None)
    if idle is not None:
        listener.setsockopt(socket.IPPROTO_TCP, idle, KEEPALIVE_IDLE_S)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)

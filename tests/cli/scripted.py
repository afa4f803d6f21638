"""An HTTP server that answers what a test says, path by path."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Said:
    """One answer; a body that is no text is sent as JSON."""

    status: int
    body: Any = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Scripted:
    """`answers` by method and path, or path alone, without its query, "" standing for all others.

    `asked` is what came: methods, paths, headers with names in small letters.
    """

    url: str
    answers: dict[str, Said]
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)


@contextmanager
def scripted(answers: dict[str, Said], certificate: Path | None = None) -> Iterator[Scripted]:
    """Serve on a free port until the block ends, over TLS where there is a certificate."""
    script = Scripted("", answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            script.asked.append((self.command, self.path, {key.lower(): value for key, value in self.headers.items()}))
            path = self.path.partition("?")[0]
            known = (script.answers.get(name) for name in (f"{self.command} {path}", path, ""))
            said = next((one for one in known if one is not None), Said(404, "not here"))
            body = said.body if isinstance(said.body, str) else json.dumps(said.body)
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - their names are the standard library's

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as above
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that left early is none of the server's troubles."""

    server = Server(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    script.url = f"{'http' if certificate is None else 'https'}://127.0.0.1:{server.server_address[1]}"
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

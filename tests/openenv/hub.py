"""The Hugging Face Hub as far as `openenv push` sees it: a server on this machine that keeps what it is sent."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USER = "tester"


@dataclass(slots=True)
class Hub:
    """What it was sent: Spaces as they were made, their files, variables, and the names of their secrets."""

    url: str = ""
    made: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    variables: dict[str, dict[str, str]] = field(default_factory=dict)
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    front_matter: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def answer(self, method: str, path: str, body: bytes) -> Any:
        """The answer's JSON; a call that it does not know is noted and answered with null."""
        route = f"{method} {path.partition('?')[0]}"
        if route == "GET /api/whoami-v2":
            return {"type": "user", "name": USER, "fullname": USER, "orgs": [], "auth": {"type": "access_token"}}
        if route == "POST /api/repos/create":
            self.made.append(json.loads(body))
            return {"url": f"{self.url}/spaces/{USER}/{self.made[-1]['name']}"}
        if route == "POST /api/validate-yaml":
            self.front_matter.append(json.loads(body)["content"])
            return {"errors": [], "warnings": []}
        if found := re.fullmatch(
            r"POST /api/spaces/([^/]+/[^/]+)/(preupload/main|commit/main|variables|secrets)", route
        ):
            return self._space(found[1], found[2], body)
        self.unknown.append(route)
        return None

    def _space(self, space: str, what: str, body: bytes) -> Any:
        match what:
            case "preupload/main":
                asked = json.loads(body)["files"]
                return {
                    "files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in asked]
                }
            case "commit/main":
                lines = [json.loads(line) for line in body.splitlines()]
                self.files[space] = {
                    line["value"]["path"]: base64.b64decode(line["value"]["content"])
                    for line in lines
                    if line["key"] == "file"
                }
                return {
                    "success": True,
                    "commitOid": "0" * 40,
                    "commitUrl": f"{self.url}/spaces/{space}/commit/{'0' * 40}",
                }
            case _:
                kept = self.variables if what == "variables" else self.secrets
                given = json.loads(body)
                kept.setdefault(space, {})[given["key"]] = given["value"]
                return {}


@contextmanager
def hub() -> Iterator[Hub]:
    """A hub on a free port of this machine."""
    kept = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply()

        def do_POST(self) -> None:
            self._reply()

        def _reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = kept.answer(self.command, self.path, body)
            said = json.dumps(answer).encode()
            self.send_response(404 if answer is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kept.url = f"http://127.0.0.1:{server.server_address[1]}"
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield kept
        finally:
            server.shutdown()
            serving.join()

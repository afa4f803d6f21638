"""Makes `openenv-0.10.0-web.json`: the routes of OpenEnv's own page, with its interface on.

From the top of the checkout, with the environment that holds OpenEnv 0.10 (and Gradio) and nothing of ours:

    .venvs/openenv-0.10/bin/python tests/recordings/web.py
"""

# mypy: ignore-errors
# ruff: noqa: T201 - a script beside its output

import json
import os
import socket
import sys
import threading
import time
from pathlib import Path

import httpx
import uvicorn

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]
os.environ["ENABLE_WEB_INTERFACE"] = "true"

from openenv.core.env_server.http_server import create_app  # noqa: E402 - behind the path
from production import JSON, MetaGameAction, MetaGameEnvironment, MetaGameObservation, answer, get, post  # noqa: E402 - behind the path

ASKED = [
    get("root", "/"),
    get("page without a slash", "/web"),
    get("metadata", "/web/metadata"),
    get("state before a reset", "/web/state"),
    post("reset", "/web/reset", {}),
    post("reset no body", "/web/reset", content="", headers=JSON),
    post("reset seed and episode", "/web/reset", {"seed": 7, "episode_id": "e"}),
    post("step", "/web/step", {"action": {"message": "hi"}}),
    post("step message alone", "/web/step", {"message": "abcd"}),
    post("step message beside an action", "/web/step", {"message": "abcd", "action": {"message": "a"}}),
    post("step extra field", "/web/step", {"action": {"message": "hi"}, "timeout_s": 15}),
    get("state", "/web/state"),
    get("reset GET", "/web/reset"),
    post("step bad json", "/web/step", content="{", headers=JSON),
    post("step array", "/web/step", []),
    post("step no body", "/web/step", content="", headers=JSON),
]


def main() -> None:
    """Ask, and write down what was answered."""
    app = create_app(MetaGameEnvironment, MetaGameAction, MetaGameObservation, env_name="meta_game_env")
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
    threading.Thread(target=server.run, args=([listener],), daemon=True).start()
    while not server.started:
        time.sleep(0.05)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with httpx.Client(base_url=address, trust_env=False, headers={"connection": "close"}, timeout=30) as client:
        recorded = [one | {"response": answer(client, one["request"])} for one in ASKED]
    server.should_exit = True
    to = HERE / "openenv-0.10.0-web.json"
    to.write_text(json.dumps(recorded, indent=1, ensure_ascii=False) + "\n")
    print(f"{to.name}: {len(recorded)} exchanges")


if __name__ == "__main__":
    main()

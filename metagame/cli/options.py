"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Url = Annotated[str, typer.Argument(help="The server's address, such as http://localhost:8000.", metavar="URL")]
ApiKey = Annotated[
    str | None,
    typer.Option(
        envvar="METAGAME_API_KEY",
        help="One of the server's METAGAME_API_KEYS. In the variable other users of this machine do not see it.",
        metavar="KEY",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]

"""The operator's commands, `sessions`, `pool` and `check`: parses options, and leaves the doing to other modules."""

from __future__ import annotations

from typing import Annotated

import typer

from metagame.cli import USAGE
from metagame.cli.options import ApiKey, AsJson, JsonLines, Url
from metagame.cli.outcome import Refused, run

_LISTED = 100
_POLL_S = 0.5
_EVERY_S = 2.0
"""As often as workers tell Redis about themselves."""

sessions = typer.Typer(no_args_is_help=True, help="List, inspect, watch and end sessions.", rich_markup_mode=None)
pool = typer.Typer(no_args_is_help=True, help="See how the pool does: workers, Redis, steps/s.", rich_markup_mode=None)

_SessionId = Annotated[
    str, typer.Argument(help="The session's id, as `metagame sessions list` shows it.", metavar="ID")
]


@sessions.command("list")
def list_sessions(
    *,
    url: Url,
    limit: Annotated[
        int | None, typer.Option(min=1, help=f"Sessions to show; default {_LISTED}.", show_default=False)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every session of the pool.")] = False,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """List sessions: where each stands, and its socket.

    Whether a socket is attached, and when the session expires.
    """
    from metagame.cli import sessions as doing  # noqa: PLC0415 - `serve` and `--help` need none of it

    def work() -> int:
        if everything and limit is not None:
            raise Refused(USAGE, "--all shows every session and --limit some of them: give one of them.")
        return doing.show_list(url, api_key, None if everything else limit or _LISTED, as_json=as_json)

    run("sessions list", work, as_json=as_json)


@sessions.command()
def show(*, url: Url, session_id: _SessionId, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show one session; exits with 1 where there is none of this id."""
    from metagame.cli import sessions as doing  # noqa: PLC0415 - as above

    run("sessions show", lambda: doing.show_one(url, api_key, session_id, as_json=as_json), as_json=as_json)


@sessions.command("watch")
def watch_session(
    *,
    url: Url,
    session_id: _SessionId,
    every: Annotated[float, typer.Option(min=0.05, help="Seconds between two looks.")] = _POLL_S,
    api_key: ApiKey = None,
    as_json: JsonLines = False,
) -> None:
    """Watch one session until it ends.

    Its step, episode, generation, and whether a socket is attached.
    """
    from metagame.cli import sessions as doing  # noqa: PLC0415 - as above

    run("sessions watch", lambda: doing.watch(url, api_key, session_id, every, as_json=as_json), as_json=as_json)


@sessions.command()
def end(
    *,
    url: Url,
    session_ids: Annotated[list[str], typer.Argument(help="Ids of sessions to end.", metavar="ID...")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """End sessions, whoever plays in them; says which of them existed."""
    from metagame.cli import sessions as doing  # noqa: PLC0415 - as above

    run("sessions end", lambda: doing.end(url, api_key, session_ids, yes=yes, as_json=as_json), as_json=as_json)


@pool.command()
def status(*, url: Url, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show the pool once: workers, Redis, steps/s.

    Sessions, latencies and errors too.
    """
    from metagame.cli import pool as doing  # noqa: PLC0415 - as above

    run("pool status", lambda: doing.status(url, api_key, as_json=as_json), as_json=as_json)


@pool.command("watch")
def watch_pool(
    *,
    url: Url,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = _EVERY_S,
    api_key: ApiKey = None,
    as_json: JsonLines = False,
) -> None:
    """Watch the pool until Ctrl-C.

    Where this is no terminal, one line each time.
    """
    from metagame.cli import pool as doing  # noqa: PLC0415 - as above

    run("pool watch", lambda: doing.watch(url, api_key, every, as_json=as_json), as_json=as_json)


def _names(incomplete: str) -> list[str]:
    """Names of checks, for the shell."""
    from metagame.cli.checks import CHECKS  # noqa: PLC0415 - as above

    return [one.name for one in CHECKS if one.name.startswith(incomplete)]


def check(  # noqa: PLR0913 - each is an option
    *,
    url: Annotated[
        str | None, typer.Argument(help="The server's address, such as http://localhost:8000.", metavar="URL")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only the check of this name; may be repeated.", metavar="NAME", autocompletion=_names),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Name the checks and what each shows; needs no URL.")] = False,
    survive: Annotated[
        float | None,
        typer.Option(
            min=1, help="Play for so many seconds too, while you kill, roll or redeploy what you want.", metavar="S"
        ),
    ] = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Check a deployment: OpenEnv, and what survives.

    Each check that fails says what is wrong and what to do; exits with 1 if one did.
    """
    from metagame.cli import check as doing  # noqa: PLC0415 - as above

    def work() -> int:
        if listed:
            return doing.show_names(as_json=as_json)
        if url is None:
            raise Refused(USAGE, "Name the server to check, as in: metagame check http://localhost:8000")
        return doing.check(url, api_key, only or [], survive, as_json=as_json)

    run("check", work, as_json=as_json, judges=True, stopped="Stopped; the sessions it made are ended.")

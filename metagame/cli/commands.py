"""What the `metagame` command can do: parses options, and leaves the doing to the other modules."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast

import typer

from metagame._version import __version__
from metagame.cli import CHECK_FAILED, DONE, USAGE, operating
from metagame.cli.options import ApiKey, AsJson, Url
from metagame.cli.outcome import Refused, print_json, run

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)

PROGRAM = "metagame"
_UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__base__)
"""What typer raises for any wrong argument, and has no public name for."""
_STOPPED = "Stopped; nothing is left running."
_SERVER_PACKAGES = ("services", "metagame_server")
"""The server's name in a checkout, and in the wheel."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"metagame {__version__}")
        raise typer.Exit


@app.callback()
def metagame(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Serve the Meta Game environment, see it work, and look after a pool of it."""


def _setting(text: str, metavar: str = "TEXT") -> Any:
    return typer.Option(help=text, metavar=metavar, show_default=False)


@app.command()
def serve(  # noqa: PLR0913 - each is a setting, and the server checks it
    *,
    host: Annotated[str | None, _setting("Address to listen on; default 127.0.0.1.")] = None,
    port: Annotated[str | None, _setting("Port to listen on; default 8000, 0 picks a free one.", "PORT")] = None,
    workers: Annotated[str | None, _setting("Worker processes; more than 1 needs Redis.", "N")] = None,
    redis_url: Annotated[str | None, _setting("Where sessions live; default: in this process's memory.", "URL")] = None,
    max_sessions: Annotated[str | None, _setting("Sessions in the whole pool.", "N")] = None,
    session_ttl_s: Annotated[str | None, _setting("Ends a session without a socket or a request.", "SECONDS")] = None,
    step_before_reset: Annotated[str | None, _setting("A first step without a reset.", "refuse|allow")] = None,
    mode: Annotated[str | None, _setting("production: no HTTP control.", "simulation|production")] = None,
    root_path: Annotated[str | None, _setting("The path that a proxy puts before ours.", "/PATH")] = None,
    drain_timeout_s: Annotated[str | None, _setting("A stopping worker leaves within this time.", "SECONDS")] = None,
    log_format: Annotated[str | None, _setting("Log lines for people or for machines.", "console|json")] = None,
) -> None:
    """Start the server. An option beats its METAGAME_X variable; the README lists all settings."""
    flags = dict(locals())
    for name in _SERVER_PACKAGES:
        if _is_ours(name):
            raise typer.Exit(importlib.import_module(f"{name}.app").main(**flags))
    typer.echo("The server package is not installed beside this command.", err=True)
    raise typer.Exit(USAGE)


@app.command()
def demo(  # noqa: PLR0913 - each is an option
    *,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes to run at once.")] = 64,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each episode.")] = 50,
    url: Annotated[str | None, typer.Option(help="Run on the server at this URL instead of one started here.")] = None,
    crash: Annotated[
        bool, typer.Option("--crash", help="Start two workers and a Redis; kill a worker half way.")
    ] = False,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Run episodes in parallel and check every answer."""
    from metagame.cli import demo as running  # noqa: PLC0415 - `serve` and `--help` need none of it

    plan = running.Plan(episodes, steps, as_json)

    def work() -> int:
        if crash and url is not None:
            raise Refused(USAGE, "--crash starts servers of its own: it cannot go with --url.")
        return running.crash_demo(plan) if crash else running.demo(plan, url, api_key)

    run(running.COMMAND, work, as_json=as_json, judges=True, stopped=_STOPPED)


@app.command()
def bench(  # noqa: PLR0913 - each is an option
    *,
    url: Url,
    sockets: Annotated[int, typer.Option(min=1, help="Sockets, each with a session of its own.")] = 64,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of each socket.", show_default=False)] = None,
    duration_s: Annotated[
        float | None, typer.Option(min=0.1, help="Step for so long; default 10, without --steps.", show_default=False)
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.1, help="Open loop: steps a second of all sockets together.", show_default=False),
    ] = None,
    think_time: Annotated[
        float, typer.Option(min=0, help="Closed loop: seconds between answer and next step, random, on average.")
    ] = 0.0,
    http: Annotated[bool, typer.Option("--http", help="Kept-alive HTTP connections instead of WebSockets.")] = False,
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="Sockets on /ws, whose sessions have no name.")
    ] = False,
    request_ids: Annotated[
        bool | None,
        typer.Option("--request-ids/--stock", help="A request id on each step; default: where the server knows them."),
    ] = None,
    api_key: ApiKey = None,
    header: Annotated[
        list[str] | None, typer.Option(help="Sent with every handshake or request; may be repeated.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Load processes.")] = 1,
    source: Annotated[
        list[str] | None, typer.Option(help="Address to connect from, for more than 28,000 sockets; may be repeated.")
    ] = None,
    pid: Annotated[
        list[int] | None,
        typer.Option(help="Process here whose CPU time and memory to read, with those it started; may be repeated."),
    ] = None,
    timeout_s: Annotated[
        float, typer.Option(min=0.1, help="How long a socket may take to open, and an answer.")
    ] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Measure a server: steps/s, latencies, CPU time.

    Metagame, or any other server of OpenEnv's echo.
    """
    from metagame.cli import bench as running  # noqa: PLC0415 - `serve` and `--help` need none of it
    from metagame.cli.measured import Plan  # noqa: PLC0415 - as above

    plan = Plan(
        sockets=sockets,
        processes=processes,
        steps=steps,
        duration_s=duration_s,
        rate_per_s=rate,
        think_s=think_time,
        http=http,
        anonymous=anonymous,
        request_ids=request_ids,
        headers=tuple(header or ()),
        sources=tuple(source or ()),
        pids=tuple(pid or ()),
        timeout_s=timeout_s,
        as_json=as_json,
    )
    run(running.COMMAND, lambda: running.bench(plan, url, api_key), as_json=as_json, judges=True, stopped=_STOPPED)


def _is_ours(name: str) -> bool:
    """Whether the package stands beside this one: `services` is a name that others use too."""
    spec = importlib.util.find_spec(name)
    here = Path(__file__).resolve().parents[2]
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve().parents[1] == here


app.command()(operating.check)
app.add_typer(operating.sessions, name="sessions")
app.add_typer(operating.pool, name="pool")


def carry_out(arguments: list[str]) -> NoReturn:
    """Do what the arguments say, and exit; with `--json` arguments that say nothing are an object too."""
    try:
        code = app(args=arguments, prog_name=PROGRAM, standalone_mode=False)
    except _UsageError as wrong:
        wrong.show()
        if "--json" in arguments:
            command = "" if wrong.ctx is None else wrong.ctx.command_path.removeprefix(PROGRAM).strip()
            print_json(command, {"error": wrong.format_message()})
        code = USAGE
    except typer.Abort:
        typer.echo("Aborted!", err=True)
        code = CHECK_FAILED
    sys.exit(code if isinstance(code, int) else DONE)

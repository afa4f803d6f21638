"""Every setting of a server, read once and frozen.

A flag beats `METAGAME_X`, which beats OpenEnv's own bare name, which beats the default. An empty
variable counts as unset.
"""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from ipaddress import ip_network
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from metagame.games.echo import MAX_MESSAGE_LENGTH
from metagame.wire.keys import FORM, is_key

PREFIX = "METAGAME_"
TESTS = "METAGAME_TEST_"
OF_CLIENTS = {"METAGAME_API_KEY"}
"""Variables that a client or the command line reads, maybe in the shell that starts the server."""
OWN_SEGMENTS = frozenset(
    {
        *("reset", "step", "state", "ws", "sessions"),
        *("health", "ready", "metrics", "pool", "metadata", "schema", "docs", "openapi.json", "static-offline-docs"),
        *("mcp", "web", "list_environments", "meta_game_env"),
    }
)
"""First segments of this server's paths, now and as designed: a root path that began with one would be ambiguous."""

_ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?", re.IGNORECASE)


class SettingsError(Exception):
    """A setting is wrong; the text names the variable, its value and what is allowed."""


def _names(name: str, *bare: str) -> AliasChoices:
    return AliasChoices(PREFIX + name, *bare)


class Settings(BaseSettings):
    """A server's settings; build it with `load_settings`, which explains what is wrong."""

    model_config = SettingsConfigDict(
        frozen=True, populate_by_name=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    redis_url: Annotated[
        str | None,
        Field(
            validation_alias=_names("REDIS_URL"),
            description="Where sessions live: redis://, rediss://, redis+sentinel://, redis+cluster://."
            " Unset: in this process's memory, one worker only",
        ),
    ] = None
    redis_timeout_s: Annotated[
        float,
        Field(
            gt=0, le=60, validation_alias=_names("REDIS_TIMEOUT_S"), description="Deadline of a request's Redis work"
        ),
    ] = 5.0
    redis_wait_replicas: Annotated[
        int,
        Field(
            ge=0,
            le=16,
            validation_alias=_names("REDIS_WAIT_REPLICAS"),
            description="Replicas that must have a step before it is answered: all there are, for a failover to"
            " lose none. With fewer there, steps fail as while Redis is away",
        ),
    ] = 0
    max_sessions: Annotated[
        int,
        Field(
            ge=1,
            le=100_000_000,
            validation_alias=_names("MAX_SESSIONS", "MAX_CONCURRENT_ENVS"),
            description="Sessions in the whole pool, whatever the number of workers",
        ),
    ] = 10_000
    session_ttl_s: Annotated[
        float,
        Field(
            ge=1,
            le=31_536_000,
            validation_alias=_names("SESSION_TTL_S"),
            description="A session without a socket ends after this long without a request",
        ),
    ] = 3600.0
    max_message_length: Annotated[
        int,
        Field(
            ge=1,
            le=10_000_000,
            validation_alias=_names("MAX_MESSAGE_LENGTH"),
            description="Code points of a message; another than the default makes the manifest's reward range another",
        ),
    ] = MAX_MESSAGE_LENGTH
    max_frame_bytes: Annotated[
        int,
        Field(
            ge=1024,
            le=100_000_000,
            validation_alias=_names("MAX_FRAME_BYTES"),
            description="Bytes of an HTTP body or a WebSocket frame",
        ),
    ] = 1_048_576
    step_before_reset: Annotated[
        Literal["refuse", "allow"],
        Field(
            validation_alias=_names("STEP_BEFORE_RESET"),
            description="allow: a first step on an anonymous socket starts an episode by itself",
        ),
    ] = "refuse"
    mode: Annotated[
        Literal["simulation", "production"],
        Field(
            validation_alias=_names("MODE", "OPENENV_MODE"),
            description="production: no HTTP to reset, step, look at, make, list or end sessions; sockets are as ever",
        ),
    ] = "simulation"
    web: Annotated[
        bool,
        Field(
            validation_alias=_names("WEB", "ENABLE_WEB_INTERFACE"),
            description="The page at /web, and the way there from /",
        ),
    ] = True
    host: Annotated[
        str, Field(min_length=1, validation_alias=_names("HOST", "HOST"), description="Address to listen on")
    ] = "127.0.0.1"
    port: Annotated[
        int,
        Field(
            ge=0, le=65535, validation_alias=_names("PORT", "PORT"), description="Port to listen on; 0 picks a free one"
        ),
    ] = 8000
    workers: Annotated[
        int,
        Field(
            ge=1,
            le=256,
            validation_alias=_names("WORKERS", "WORKERS"),
            description="Worker processes; more than 1 needs Redis",
        ),
    ] = 1
    root_path: Annotated[
        str | None,
        Field(
            validation_alias=_names("ROOT_PATH"),
            description="The path that a proxy puts before ours, such as /metagame, whether it strips it or not",
        ),
    ] = None
    forwarded_allow_ips: Annotated[
        str,
        Field(
            validation_alias=_names("FORWARDED_ALLOW_IPS", "FORWARDED_ALLOW_IPS"),
            description="Proxies whose X-Forwarded-Proto and -For are believed: addresses and networks, or *",
        ),
    ] = "127.0.0.1"
    api_keys: Annotated[
        SecretStr | None,
        Field(
            validation_alias=_names("API_KEYS"),
            description="Keys, separated by commas, of which every request and socket then has to carry one."
            " Unset: open to whoever reaches the server",
        ),
    ] = None
    allowed_origins: Annotated[
        str | None,
        Field(
            validation_alias=_names("ALLOWED_ORIGINS"),
            description="Websites whose pages may use the server from a browser, such as https://lab.example, or *."
            " Unset: /mcp for pages of its own only, the rest for any",
        ),
    ] = None
    drain_timeout_s: Annotated[
        float,
        Field(
            ge=0,
            le=3600,
            validation_alias=_names("DRAIN_TIMEOUT_S"),
            description="A stopping worker leaves within this time",
        ),
    ] = 10.0
    traces: Annotated[
        Literal["off", "otlp", "console"],
        Field(
            validation_alias=_names("TRACES"),
            description="Spans of OpenTelemetry: to a collector as the OTEL_ variables say, or to the console;"
            " needs the extra otel",
        ),
    ] = "off"
    log_format: Annotated[
        Literal["console", "json"] | None,
        Field(
            validation_alias=_names("LOG_FORMAT"),
            description="console: log lines for people; json: for machines. Unset: console on a terminal, else json",
        ),
    ] = None
    log_steps: Annotated[
        bool,
        Field(
            validation_alias=_names("LOG_STEPS"),
            description="A log line for each reset and step too: session, episode, step, how long it took;"
            " never what was said",
        ),
    ] = False

    @field_validator("mode", mode="before")
    @classmethod
    def _in_any_case(cls, mode: object) -> object:
        """As OpenEnv takes it."""
        return mode.lower() if isinstance(mode, str) else mode

    @field_validator("web", mode="before")
    @classmethod
    def _yes_or_no(cls, asked: object) -> object:
        """As OpenEnv takes it, and in words where it is neither."""
        answers = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if not isinstance(asked, str):
            return asked
        if asked.strip().lower() not in answers:
            message = "must be true or false"
            raise ValueError(message)
        return answers[asked.strip().lower()]

    @field_validator("redis_url")
    @classmethod
    def _known_scheme(cls, url: str | None) -> str | None:
        if url is None or not url.strip():
            return None
        if re.match(r"(rediss?|redis\+sentinel|redis\+cluster)://[^/]", url) is None:
            message = (
                "must be redis://host:port/db, rediss://…, redis+sentinel://h1:26379,h2:26379/service/db"
                " or redis+cluster://h1:7000,h2:7001"
            )
            raise ValueError(message)
        return url

    @field_validator("root_path")
    @classmethod
    def _a_path_of_its_own(cls, path: str | None) -> str | None:
        if path is None:
            return None
        if re.fullmatch(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+", path) is None:
            message = "must be like /metagame or /envs/metagame: a slash first, none at the end; unset it for none"
            raise ValueError(message)
        first = path.split("/")[1]
        if first in OWN_SEGMENTS:
            message = f"must not begin with /{first}, a path of this server's own: the two could not be told apart"
            raise ValueError(message)
        return path

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _addresses(cls, listed: str) -> str:
        """What is no address would be taken for a name that no peer ever has, without a word."""
        if listed.strip() == "*":
            return "*"
        for one in listed.split(","):
            try:
                ip_network(one.strip())
            except ValueError as wrong:
                message = f"must be * or addresses and networks, as in 127.0.0.1,10.0.0.0/8: {wrong}"
                raise ValueError(message) from None
        return listed

    @field_validator("api_keys")
    @classmethod
    def _keys(cls, listed: SecretStr | None) -> SecretStr | None:
        """What is wrong is said by its place in the list: a key is shown nowhere."""
        if listed is None:
            return None
        keys = _split(listed)
        for number, key in enumerate(keys, 1):
            if not is_key(key):
                message = f"number {number} of {len(keys)} is no key: each is {FORM}, and commas stand between them"
                raise ValueError(message)
        return SecretStr(",".join(keys))

    @property
    def keys(self) -> tuple[str, ...]:
        """The API keys, each by itself; none on an open server."""
        return () if self.api_keys is None else _split(self.api_keys)

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, listed: str | None) -> str | None:
        """As browsers write them, so that what can never match is told at once."""
        for one in () if listed is None else listed.split(","):
            if one.strip() != "*" and _ORIGIN.fullmatch(one.strip()) is None:
                message = "must be * or origins as in https://lab.example,http://localhost:5173: no path, no slash"
                raise ValueError(message)
        return listed

    @property
    def origins(self) -> tuple[str, ...]:
        """`allowed_origins` one by one."""
        return tuple(one.strip().lower() for one in (self.allowed_origins or "").split(",") if one.strip())

    @property
    def session_ttl_ms(self) -> int:
        """`session_ttl_s` in milliseconds."""
        return round(self.session_ttl_s * 1000)


def load_settings(**flags: Any) -> Settings:
    """Settings from flags (None: not given) and the environment; raises SettingsError."""
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as wrong:
        raise SettingsError("\n".join(_explain(error, given) for error in wrong.errors())) from None
    if settings.workers > 1 and settings.redis_url is None:
        message = (
            f"{PREFIX}WORKERS, or --workers, is {settings.workers}, but without {PREFIX}REDIS_URL sessions live in one"
            f" process's memory, where other workers cannot see them. Set {PREFIX}REDIS_URL (for example redis://localhost:6379/0)"
            " or use one worker."
        )
        raise SettingsError(message)
    if settings.redis_wait_replicas and settings.redis_url is None:
        message = (
            f"{PREFIX}REDIS_WAIT_REPLICAS is {settings.redis_wait_replicas}, but without {PREFIX}REDIS_URL there is"
            f" no Redis and so no replica. Set {PREFIX}REDIS_URL or unset {PREFIX}REDIS_WAIT_REPLICAS."
        )
        raise SettingsError(message)
    return settings


def unknown_variables() -> dict[str, list[str]]:
    """Variables with our prefix that are no setting, each with the settings that it may have been meant to be."""
    known = [choice for field in Settings.model_fields.values() for choice in _choices(field)]
    unknown = {name for name in os.environ if name.startswith(PREFIX) and name not in known} - OF_CLIENTS
    return {name: get_close_matches(name, known, 1) for name in sorted(unknown) if not name.startswith(TESTS)}


def hide_password(url: str) -> str:
    """The URL with user and password as ***, those for sentinels too.

    A password may hold what belongs encoded, so everything up to the last @ is hidden.
    """
    without_sentinels = re.sub(r"(sentinel_(?:username|password)=)[^&]*", r"\1***", url)
    return re.sub(r"//.*@", "//***@", without_sentinels, flags=re.DOTALL)


def _split(listed: SecretStr) -> tuple[str, ...]:
    return tuple(one.strip() for one in listed.get_secret_value().split(","))


def _explain(error: Any, given: dict[str, Any]) -> str:
    alias = str(error["loc"][0])
    name = next(
        (field for field, info in Settings.model_fields.items() if field == alias or alias in _choices(info)), alias
    )
    where = f"--{name.replace('_', '-')}" if name in given else _variable(name)
    shown = "***" if name == "api_keys" else hide_password(str(error["input"]))
    return f"{where} is {shown!r}, which is not allowed: {error['msg'].removeprefix('Value error, ')}"


def _choices(info: Any) -> list[str]:
    alias = info.validation_alias
    return [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else []


def _variable(field: str) -> str:
    """The variable the value came from: the first that is set."""
    choices = _choices(Settings.model_fields[field])
    return next((name for name in choices if os.environ.get(name)), choices[0])

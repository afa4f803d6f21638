"""Our answers held against the reference servers', each difference with its reason.

Every recorded exchange is sent again, in the recorded order, by one client that keeps cookies. A
difference that no row lists fails, and so does a row that lists none.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from structlog.testing import capture_logs

from metagame.games.echo import EchoGame
from tests.behaviour.apps import running_app
from tests.games.tasks import Tasks
from tests.servers import Server, run_server
from tests.wire import replay

ANY_RESET = ("reset empty object", "reset no body", "reset seed+episode_id", "reset extra field")
ANY_STEP = (
    "step ok",
    "step again (stateless?)",
    "step ok as 0.1.x client sends it",
    "step with action metadata",
    "step with request_id/extra",
    "step empty message",
    "step long message 25 chars",
    "step unicode",
)
REFUSED_ACTIONS = ("step missing message", "step wrong type", "step extra action field")
TASK_ROUTES = ("tasks", "num_tasks", "task", "task_range", "tasks missing split")
WEB = (
    "web GET /web {}",
    "web GET /web/ {}",
    "web GET /web/metadata {}",
    "web POST /web/reset {'json': {}}",
    "web POST /web/reset {}",
    "web POST /web/step {'json': {'action': {'message': 'hi'}}}",
    "web POST /web/step {'json': {'message': 'hi'}}",
    "web GET /web/state {}",
)
NO_REQUEST = ("mcp empty object (validator probe)", "mcp wrong jsonrpc", "mcp extra field", "mcp params not object")
REFUSED_CALLS = (
    *NO_REQUEST,
    "mcp bad json",
    "mcp array",
    "mcp unknown method",
    "mcp notification (no id)",
    "mcp tools/call",
    "mcp tools/call no name",
    "mcp tools/list unknown session_id",
    "mcp session close after ws gone",
    "mcp session close twice",
    "mcp session close no id",
)


@dataclass(frozen=True, slots=True)
class Known:
    """Differences with one reason. `*` in an exchange's name or a line stands for any text.

    Every line must be found in every one of the exchanges, else the row is stale.
    """

    reason: str
    exchanges: tuple[str, ...]
    lines: tuple[str, ...]


TITLED = Known(
    "this server's name and its own sentence",
    ("openapi",),
    ('body.info.title: * -> "Metagame"', 'body.info.description: * "Echoes each message *"'),
)

BOTH = (
    Known(
        "HTTP errors carry a code, and those of the environment a reason, for programs to read",
        ("reset null body", "step no body", "step text/plain"),
        ('body.code: + "VALIDATION_ERROR"', 'body.reason: + "invalid_request"'),
    ),
    Known(
        "the same, for what is not JSON",
        ("reset bad json", "step bad json"),
        ('body.code: + "INVALID_JSON"', 'body.reason: + "invalid_json"'),
    ),
    Known("the same, for a path that does not exist", ("root", "unknown path"), ('body.code: + "NOT_FOUND"',)),
    Known("the same, for a wrong method", ("reset GET", "state POST"), ('body.code: + "METHOD_NOT_ALLOWED"',)),
    Known(
        "the environment's name",
        ANY_RESET,
        ('body.observation.echoed_message: "Meta Game Env environment ready!" -> "Meta Game environment ready!"',),
    ),
    Known("the page's assets are our own, so that it works without internet", ("docs",), ("body: * -> *",)),
    Known(
        "routes of ours: readiness, metrics, the pool, and sessions as resources",
        ("openapi",),
        (
            'body.paths./metrics: + ["get"]',
            'body.paths./pool: + ["get"]',
            'body.paths./ready: + ["get"]',
            'body.paths./sessions: + ["get", "post"]',
            'body.paths./sessions/{session_id}: + ["delete", "get"]',
            'body.paths./sessions/{session_id}/reset: + ["post"]',
            'body.paths./sessions/{session_id}/step: + ["post"]',
            'body.paths./sessions/{session_id}/state: + ["get"]',
        ),
    ),
    TITLED,
    Known("a request id is echoed", ("step with request_id/extra",), ('body.request_id: + "r1"',)),
    Known(
        "the session that a request names is the one it is answered for; there everybody had the same, or a fresh one",
        ("state GET with session_id query",),
        (
            "status: 200 -> 404",
            "body.episode_id: - *",
            "body.step_count: - *",
            'body.detail: + "This session does not exist: *"',
            'body.code: + "SESSION_ERROR"',
            'body.reason: + "session_lost"',
        ),
    ),
    Known("the page is off, as it was there; a 404 carries a code", WEB, ('body.code: + "NOT_FOUND"',)),
)

DESCRIBED = (
    Known(
        "the environment's name and sentence, and its README, which there only the page showed",
        ("metadata",),
        (
            'body.name: "MetaGameEnvironment" -> "meta_game"',
            'body.description: "MetaGameEnvironment environment" -> "Echoes each message *"',
            "body.readme_content: null -> *# Metagame*",
        ),
    ),
    Known("the schemas' prose is ours", ("schema",), ("body.*description: * -> *", "body.state.title: * -> *")),
    Known(
        "a message's length is bounded, and the schema says so",
        ("schema",),
        ("body.action.properties.message.maxLength: + 65536",),
    ),
    Known(
        "this server's own contact, license and version",
        ("openapi",),
        ("body.info.contact: - *", "body.info.license: - *", 'body.info.version: "1.0.0" -> *'),
    ),
    Known(
        "MCP's own sessions end by DELETE, and a path names the session of an agent",
        ("openapi",),
        (
            'body.paths./mcp: ["post"] -> ["delete", "post"]',
            'body.paths./sessions/{session_id}/mcp: + ["post"]',
        ),
    ),
)

NOW = (
    *BOTH,
    *DESCRIBED,
    Known(
        "HTTP errors carry a code and a reason",
        ("reset negative seed", "reset seed wrong type", "step no action wrapper", "step action *", "step timeout 0"),
        ('body.code: + "VALIDATION_ERROR"', 'body.reason: + "invalid_request"'),
    ),
    Known(
        "the same; and pydantic's url is left out",
        REFUSED_ACTIONS,
        (
            'body.code: + "VALIDATION_ERROR"',
            'body.reason: + "invalid_action"',
            'body.detail.0.url: - "https://errors.pydantic.dev/*"',
        ),
    ),
    Known(
        "HTTP steps go on in the session that the cookie names; there each request had an environment of its own",
        ANY_STEP[1:],
        ("body.observation.metadata.step: 1 -> *", "body.metadata.step: 1 -> *"),
    ),
    Known("the same", ("state after steps",), ("body.step_count: 0 -> 2",)),
    Known(
        "the reward is length / 10, unbounded",
        ("step ok", "step long message 25 chars"),
        ("body.reward: 1.0 -> *",),
    ),
    Known(
        "JSON-RPC errors carry a reason for programs to read",
        REFUSED_CALLS,
        ('body.error.data: null -> {"reason": *}',),
    ),
    Known("the same", ("mcp session create when at capacity",), ('body.error.data.reason: + "capacity_reached"',)),
    Known("the same", ("ws mcp frame",), ('2.received.data.error.data: null -> {"reason": "invalid_request", *}',)),
    Known("the same", ("ws mcp frame",), ('3.received.data.error.data: null -> {"reason": "unknown_method"}',)),
    Known(
        "the same",
        ("mcp ws",),
        tuple(f'{number}.received.error.data: null -> {{"reason": *}}' for number in (1, 2, 4)),
    ),
    Known(
        "the same, and no library's words",
        NO_REQUEST,
        ('body.error.message: "*errors.pydantic.dev*" -> "Invalid request: *"',),
    ),
    Known(
        "the same",
        ("ws mcp frame",),
        ('2.received.data.error.message: "*errors.pydantic.dev*" -> "Invalid request: *"',),
    ),
    Known("the same", ("mcp ws",), ('2.received.error.message: "*errors.pydantic.dev*" -> "Invalid request: *"',)),
    Known(
        "error frames carry a reason, and pydantic's url is left out",
        ("ws mcp frame",),
        ('4.received.data.reason: + "invalid_request"', "4.received.data.errors.0.url: - *"),
    ),
    Known(
        "a parse error says where, over HTTP too",
        ("mcp bad json",),
        ('body.error.message: "Parse error" -> "Parse error: Expecting property name * (char 1)"',),
    ),
    Known(
        "JSON that is no request is called that, and no parse error",
        ("mcp array",),
        (
            "body.error.code: -32700 -> -32600",
            'body.error.message: "Parse error" -> "Invalid request: a call is one JSON object"',
        ),
    ),
    Known(
        "MCP itself is spoken here, beside OpenEnv's dialect",
        ("mcp initialize",),
        (
            'body.error: - {"code": -32601, *}',
            'body.result: + {"protocolVersion": "2025-06-18", "capabilities": {"tools": *}, "serverInfo": *}',
        ),
    ),
    Known(
        "our echo has tools; the scaffold has none",
        ("mcp tools/list", "mcp tools/list with session_id"),
        ('body.error: - {"code": -32603, *}', 'body.result: + {"tools": [{"name": "echo_message", *'),
    ),
    Known(
        "the same",
        ("ws mcp frame",),
        ("0.received.data.error: - *", '0.received.data.result: + {"tools": [{"name": "echo_message", *'),
    ),
    Known(
        "the same",
        ("mcp ws",),
        ("0.received.error: - *", '0.received.result: + {"tools": [{"name": "echo_message", *'),
    ),
    Known(
        "the same: a step lists them",
        ("ws errors",),
        (
            '10.received.type: "error" -> "observation"',
            '10.received.data.message: - "Invalid message"',
            '10.received.data.code: - "VALIDATION_ERROR"',
            "10.received.data.errors: - *",
            '10.received.data.observation: + {"metadata": {}, "tools": [{"name": "echo_message", *',
            "10.received.data.reward: + null",
            "10.received.data.done: + false",
        ),
    ),
    Known(
        "the same",
        ("mcp tools/call",),
        (
            "body.error.code: -32603 -> -32602",
            "body.error.message: * -> \"Unknown tool: 'echo'. There are: echo_message, echo_with_length\"",
        ),
    ),
    Known("HTTP errors carry a code", ("mcp GET",), ('body.code: + "METHOD_NOT_ALLOWED"',)),
    Known(
        "a session id is 32 hexadecimal digits",
        ("mcp session create", "mcp session create #2"),
        ("body.result.session_id: * -> *",),
    ),
    Known("the same", ("ws mcp frame",), ("1.received.data.result.session_id: * -> *",)),
    Known("the same", ("mcp ws",), ("3.received.result.session_id: * -> *",)),
    Known(
        "a session that is closed ends at once; a socket on it is told",
        ("mcp session close while ws attached",),
        ("body.result.closed: false -> true", "body.result.closing: - true"),
    ),
    Known(
        "HTTP errors carry a code",
        ("splits meta_game_env", "splits META_GAME_ENV", *TASK_ROUTES[:4]),
        ('body.code: + "NOT_IMPLEMENTED"',),
    ),
    Known("the same", ("splits nope",), ('body.code: + "NOT_FOUND"',)),
    Known(
        "the same, and a reason",
        ("tasks missing split",),
        ('body.code: + "VALIDATION_ERROR"', 'body.reason: + "invalid_request"'),
    ),
    Known(
        "the environment's name",
        ("ws attach session_id", "ws normal episode", "ws reset without data", "ws reset unknown kwarg"),
        ('*.received.data.observation.echoed_message: "Meta Game Env *!" -> "Meta Game environment ready!"',),
    ),
    Known(
        "the reward is length / 10, so that 3 characters give 0.3",
        ("ws attach session_id*",),
        ("1.received.data.reward: 0.30000000000000004 -> 0.3",),
    ),
    Known("the reward is unbounded", ("ws normal episode",), ("4.received.data.reward: 1.0 -> 1.3",)),
    Known(
        "no episode runs before a reset, so none has an id",
        ("ws empty session_id", "ws normal episode"),
        ("0.received.data.episode_id: * -> null",),
    ),
    Known("the same", ("ws reset data null",), ("1.received.data.episode_id: * -> null",)),
    Known("the same", ("ws errors",), ("11.received.data.episode_id: * -> null",)),
    Known(
        "error frames carry a reason for programs to read, and pydantic's url is left out",
        ("ws reset data null", "ws extra top-level field"),
        (
            '0.received.data.reason: + "invalid_request"',
            '0.received.data.errors.0.url: - "https://errors.pydantic.dev/*"',
        ),
    ),
    Known(
        "the same",
        ("ws errors",),
        (
            '0.received.data.reason: + "invalid_json"',
            *(f'{number}.received.data.reason: + "unknown_frame_type"' for number in (1, 2, 3)),
            *(f'{number}.received.data.reason: + "invalid_request"' for number in (4, 9)),
            *(f'{number}.received.data.reason: + "invalid_action"' for number in (5, 6, 7, 8)),
            *(f"{number}.received.data.errors.0.url: - *" for number in range(4, 10)),
            "8.received.data.errors.1.url: - *",
        ),
    ),
    Known(
        "the same",
        ("ws reset unknown kwarg",),
        ('3.received.data.reason: + "invalid_request"', "3.received.data.errors.0.url: - *"),
    ),
    Known(
        "the same",
        ("ws extra top-level field",),
        ('2.received.data.reason: + "invalid_request"', "2.received.data.errors.0.url: - *"),
    ),
    Known(
        "a seed is an integer of 0 or more everywhere; sockets there took anything",
        ("ws reset unknown kwarg",),
        tuple(
            f"{number}.received.{line}"
            for number in (1, 2)
            for line in (
                'type: "observation" -> "error"',
                "data.observation: - *",
                "data.reward: - 0.0",
                "data.done: - false",
                'data.message: + "Invalid message"',
                'data.code: + "VALIDATION_ERROR"',
                'data.reason: + "invalid_request"',
                'data.errors: + *"loc": ["seed"]*',
            )
        ),
    ),
    Known(
        "a step before a reset is refused, unless STEP_BEFORE_RESET=allow",
        ("ws step before reset",),
        (
            '0.received.type: "observation" -> "error"',
            "0.received.data.observation: - *",
            "0.received.data.reward: - 0.1",
            "0.received.data.done: - false",
            "0.received.data.metadata: - *",
            '0.received.data.message: + "No episode is running in this session. Send a reset first.*"',
            '0.received.data.code: + "SESSION_ERROR"',
            '0.received.data.reason: + "no_episode"',
            "1.received.data.episode_id: * -> null",
            "1.received.data.step_count: 1 -> 0",
        ),
    ),
    Known(
        "a frame may have a request id; this step, sent before a reset, is refused for that",
        ("ws extra top-level field",),
        (
            '1.received.data.message: "Invalid message" -> "No episode is running in this session.*"',
            '1.received.data.code: "VALIDATION_ERROR" -> "SESSION_ERROR"',
            '1.received.data.errors: - *"loc": ["request_id"]*',
            '1.received.data.reason: + "no_episode"',
            '1.received.request_id: + "r"',
        ),
    ),
    Known(
        "a frame that is not an object costs an error that says so, and never the socket",
        ("ws json array frame", "ws json string frame"),
        (
            '0.received.data.message: * -> "Invalid message: a frame is a JSON object, not *"',
            '0.received.data.code: "SESSION_ERROR" -> "VALIDATION_ERROR"',
            '0.received.data.reason: + "invalid_request"',
        ),
    ),
    Known(
        "the same, for a binary frame",
        ("ws binary frame",),
        (
            '0.received.data.message: * -> "Invalid JSON: a frame is a text frame, and this one is binary"',
            '0.received.data.code: "SESSION_ERROR" -> "INVALID_JSON"',
            '0.received.data.reason: + "invalid_json"',
        ),
    ),
    Known(
        "the same: the next frame is answered",
        ("ws json array frame", "ws json string frame", "ws binary frame"),
        (
            '1.received: null -> {"type": "state", "data": {"episode_id": null, "step_count": 0}}',
            '1.closed: - {"code": 1000, "reason": ""}',
        ),
    ),
    Known(
        "a second socket takes the session over",
        ("ws attach while already attached",),
        ("0.unsolicited: * -> null", '1.closed: {"code": 1000, "reason": ""} -> null'),
    ),
    Known(
        "an unknown session is made by its first reset",
        ("ws unknown session_id",),
        ("0.unsolicited: * -> null", '1.closed: {"code": 1000, "reason": ""} -> null'),
    ),
    Known(
        "error frames carry a reason",
        ("ws second connection when max_concurrent_envs=1",),
        ('0.unsolicited.data.reason: + "capacity_reached"',),
    ),
    Known(
        "a message has up to MAX_MESSAGE_LENGTH code points",
        ("ws 200kB message",),
        (
            '0.received.type: "observation" -> "error"',
            "0.received.data.observation: - *",
            "0.received.data.reward: - 1.0",
            "0.received.data.done: - false",
            "0.received.data.metadata: - *",
            '0.received.data.message: + "Invalid message"',
            '0.received.data.code: + "VALIDATION_ERROR"',
            '0.received.data.reason: + "invalid_action"',
            '0.received.data.errors: + *"loc": ["message"]*',
        ),
    ),
)

FIRST = (
    *BOTH,
    Known(
        "0.1 had neither /metadata nor /schema; these are 0.10's",
        ("metadata", "schema"),
        ("status: 404 -> 200", 'body.detail: - "Not Found"', "body.*: + *"),
    ),
    Known("the same", ("openapi",), ('body.paths./metadata: + ["get"]', 'body.paths./schema: + ["get"]')),
    Known(
        "observations carry metadata, as 0.10's do; 0.1's client ignores it",
        (*ANY_RESET, *ANY_STEP),
        ("body.observation.metadata: + *", "body.metadata: + *"),
    ),
    Known(
        "the body is named as 0.10 names it",
        ("reset null body", "step text/plain"),
        ('body.detail.0.type: "dict_type" -> "model_attributes_type"', "body.detail.0.msg: * -> *"),
    ),
    Known(
        "a seed is an integer of 0 or more everywhere; 0.1 ignored it",
        ("reset negative seed", "reset seed wrong type"),
        ('body.detail: + *"loc": ["body", "seed"]*',),
    ),
    Known(
        "a time limit is above 0, as in 0.10", ("step timeout 0",), ('body.detail: + *"loc": ["body", "timeout_s"]*',)
    ),
    Known(
        "an action stands in `action`, as in 0.10; 0.1 also took it bare",
        ("step no action wrapper",),
        ('body.detail: + *"loc": ["body", "action"]*',),
    ),
    Known(
        "the same: refused with the field's name",
        ("reset negative seed", "reset seed wrong type", "step timeout 0", "step no action wrapper"),
        (
            "status: 200 -> 422",
            "body.observation: - *",
            "body.reward: - *",
            "body.done: - false",
            'body.code: + "VALIDATION_ERROR"',
            'body.reason: + "invalid_request"',
        ),
    ),
    Known(
        "a bad action is the caller's mistake; 0.1 answered 500",
        (*REFUSED_ACTIONS, "step action null", "step action list"),
        (
            "status: 500 -> 422",
            'content_type: "text/plain; charset=utf-8" -> "application/json"',
            'body: "Internal Server Error" -> {"detail": [*], "code": "VALIDATION_ERROR", "reason": *}',
        ),
    ),
    Known(
        "0.1 had no sockets",
        (
            "ws normal episode",
            "ws step before reset",
            "ws reset *",
            "ws extra top-level field",
            "ws errors",
            "ws json *",
            "ws binary frame",
            "ws mcp frame",
            "mcp ws",
            "ws attach *",
            "ws unknown session_id",
            "ws empty session_id",
            "ws second connection *",
            "ws 200kB message",
        ),
        ("handshake.status: 403 -> 101",),
    ),
    Known("a 404 carries a code", ("splits nope",), ('body.code: + "NOT_FOUND"',)),
    Known("0.1 had no /mcp; this is 0.10's, and MCP", ("openapi",), ('body.paths.*/mcp: + [*"post"]',)),
    Known(
        "the same",
        ("mcp *",),
        (
            "status: 404 -> 200",
            'body.detail: - "Not Found"',
            'body.jsonrpc: + "2.0"',
            "body.id: + *",
            "body.result: + *",
            "body.error: + *",
        ),
    ),
    Known(
        "the same",
        ("mcp GET",),
        ("status: 404 -> 405", "body.detail: * -> *", 'body.code: + "METHOD_NOT_ALLOWED"'),
    ),
    Known(
        "0.1 had no task routes; these are 0.10's",
        ("openapi",),
        (
            'body.paths./list_environments: + ["get"]',
            'body.paths./{env_name}/splits: + ["get"]',
            *(f'body.paths./{{env_name}}/{route}: + ["post"]' for route in TASK_ROUTES[:4]),
        ),
    ),
    Known(
        "the same",
        ("list_environments",),
        ("status: 404 -> 200", 'body: {"detail": "Not Found"} -> ["meta_game_env"]'),
    ),
    Known(
        "the same",
        ("splits meta_game_env", "splits META_GAME_ENV", *TASK_ROUTES[:4]),
        (
            "status: 404 -> 501",
            'body.detail: "Not Found" -> "* is not supported for this environment"',
            'body.code: + "NOT_IMPLEMENTED"',
        ),
    ),
    Known("the same", ("splits nope",), ('body.detail: "Not Found" -> "unknown environment \'nope\'"',)),
    Known(
        "the same",
        ("tasks missing split",),
        (
            "status: 404 -> 422",
            'body.detail: "Not Found" -> [*"loc": ["body", "split"]*]',
            'body.code: + "VALIDATION_ERROR"',
            'body.reason: + "invalid_request"',
        ),
    ),
)

LISTS = ("tools list", "tools list without session", "ws mcp frames", "mcp ws")
WRONG_ARGUMENTS = (
    "tools call wrong type",
    "tools call missing argument",
    "tools call extra argument",
    "tools call no arguments",
)
TOOLS = (
    Known(
        "a tool is described in our words, and its schema says how long a message may be",
        (*LISTS, "ws step frames"),
        (
            "*.tools.*.description: * -> *",
            "*.properties.message.description: *",
            "*.properties.message.maxLength: + 65536",
            '*.title: + "Message"',
        ),
    ),
    Known(
        "what is null, and what is FastMCP's own, is left out of a list",
        LISTS,
        (*(f"*.tools.*.{name}: - null" for name in ("title", "icons", "annotations", "execution")), "*.meta: - *"),
    ),
    Known(
        "the result of echo_with_length has a schema; there it is any object",
        LISTS,
        (
            "*.outputSchema.additionalProperties: - true",
            "*.outputSchema.description: + *",
            "*.outputSchema.properties: + *",
            "*.outputSchema.required: + *",
            '*.outputSchema.title: + "EchoWithLength"',
        ),
    ),
    Known(
        "a session id is 32 hexadecimal digits",
        ("mcp session create", "ws mcp frames", "mcp ws"),
        ("*result.session_id: * -> *",),
    ),
    Known(
        "an unknown tool is the caller's mistake, as MCP has it, and the answer says which there are",
        ("tools call unknown tool", "tools call reserved name", "mcp ws"),
        (
            "*error.code: -32603 -> -32602",
            '*error.message: "Unknown tool: \'*\'" -> *There are: echo_message, echo_with_length"',
            '*error.data: null -> {"reason": "unknown_tool"}',
        ),
    ),
    Known(
        "so are wrong arguments, and no library's words are sent",
        WRONG_ARGUMENTS,
        (
            "body.error.code: -32603 -> -32602",
            'body.error.message: "*errors.pydantic.dev*" -> "Invalid arguments: *"',
            'body.error.data: null -> {"reason": "invalid_action", "errors": *}',
        ),
    ),
    Known(
        "the same",
        ("tools call arguments a list",),
        (
            "body.error.code: -32603 -> -32602",
            'body.error.message: "*errors.pydantic.dev*" -> "Invalid params - \'arguments\' must be an object"',
            'body.error.data: null -> {"reason": "invalid_params"}',
        ),
    ),
    Known(
        "JSON-RPC errors carry a reason for programs to read",
        ("ws mcp frames",),
        ('4.received.data.error.data: * -> {"reason": *}', '5.received.data.error.data: * -> {"reason": *}'),
    ),
    Known(
        "a reset shows our observation",
        ("ws step frames", "ws step frames an agent got wrong", "ws mcp frames"),
        (
            '0.received.data.observation.metadata.status: - "ready"',
            '0.received.data.observation.echoed_message: + "Meta Game environment ready!"',
            "0.received.data.observation.message_length: + 0",
            "0.received.data.metadata: - *",
        ),
    ),
    Known(
        "a call is a step like any other: it has the step's reward and metadata",
        ("ws step frames",),
        tuple(
            f"{number}.received.data.{line}"
            for number in (2, 3, 4)
            for line in (
                'observation.metadata.original_message: + "hi"',
                f"observation.metadata.step: + {number - 1}",
                "reward: null -> 0.2",
                f'metadata: + {{"original_message": "hi", "step": {number - 1}}}',
            )
        ),
    ),
    Known(
        "what an agent got wrong is said in our words",
        ("ws step frames an agent got wrong",),
        (
            "1.received.data.observation.error.message: \"Unknown tool: 'nope'\" -> *",
            *(
                f'{number}.received.data.observation.error.message: "*errors.pydantic.dev*" -> "Invalid arguments: *"'
                for number in (2, 3, 4)
            ),
            '2.received.data.observation.error.error_type: "execution_error" -> "invalid_args"',
        ),
    ),
    Known(
        "error frames carry a reason, and pydantic's url is left out",
        ("ws malformed tool actions",),
        tuple(
            f"{number}.received.data.{line}"
            for number in range(3)
            for line in ('reason: + "invalid_action"', "errors.0.url: - *")
        ),
    ),
)

PRODUCTION = (
    TITLED,
    *DESCRIBED,
    Known(
        "routes of ours: readiness, metrics, the pool",
        ("openapi",),
        ('body.paths./metrics: + ["get"]', 'body.paths./pool: + ["get"]', 'body.paths./ready: + ["get"]'),
    ),
    Known(
        "HTTP errors carry a code",
        ("reset", "reset GET", "step", "state", "state POST", "splits of another", "tasks of another"),
        ('body.code: + "NOT_FOUND"',),
    ),
    Known("the same", ("splits DELETE", "tasks GET"), ('body.code: + "METHOD_NOT_ALLOWED"',)),
    Known("the same", ("task out of range",), ('body.code: + "BAD_REQUEST"',)),
    Known(
        "the same, and a reason",
        (
            "tasks of another without a split",
            "tasks without a split",
            "tasks extra field",
            "tasks without a body",
            "tasks array",
            "task without an index",
            "task wrong type",
        ),
        ('body.code: + "VALIDATION_ERROR"', 'body.reason: + "invalid_request"'),
    ),
    Known("the same", ("tasks bad json",), ('body.code: + "INVALID_JSON"', 'body.reason: + "invalid_json"')),
    Known(
        "a game's failure is JSON like every error, and says no more",
        ("tasks of an unknown split",),
        (
            'content_type: "text/plain; charset=utf-8" -> "application/json"',
            'body: "Internal Server Error" -> {"detail": "The game failed *", "code": "EXECUTION_ERROR", *}',
        ),
    ),
    Known(
        "the environment's name",
        ("ws episode",),
        ('0.received.data.observation.echoed_message: "ready!" -> "Meta Game environment ready!"',),
    ),
)

PAGE = (
    Known(
        "the environment's name and sentence, and its README",
        ("metadata",),
        (
            'body.name: "meta_game_env" -> "meta_game"',
            'body.description: "MetaGameEnvironment environment" -> "Echoes each message *"',
            "body.readme_content: null -> *# Metagame*",
        ),
    ),
    Known(
        "the environment's words",
        ("reset", "reset no body", "reset seed and episode"),
        ('body.observation.echoed_message: "ready!" -> "Meta Game environment ready!"',),
    ),
    Known(
        "a visitor has no session before a reset, and so no episode",
        ("state before a reset",),
        ("body.episode_id: * -> null",),
    ),
    Known(
        "a wrong method is called that",
        ("reset GET",),
        ("status: 404 -> 405", "body.detail: * -> *", 'body.code: + "METHOD_NOT_ALLOWED"'),
    ),
    Known(
        "HTTP errors carry a code and a reason",
        ("step array", "step no body"),
        ('body.code: + "VALIDATION_ERROR"', 'body.reason: + "invalid_request"'),
    ),
    Known("the same", ("step bad json",), ('body.code: + "INVALID_JSON"', 'body.reason: + "invalid_json"')),
    Known(
        "a body is named as OpenEnv's other routes name it",
        ("step array",),
        ('body.detail.0.type: "dict_type" -> "model_attributes_type"', "body.detail.0.msg: * -> *"),
    ),
)

KNOWN = {"0.10.0": NOW, "0.1.1": FIRST, "0.10.0-tools": TOOLS, replay.PRODUCTION: PRODUCTION, replay.PAGE: PAGE}


TOOLS_OF = "0.10.0-tools"


class EchoWithTasks(Tasks, EchoGame):
    """The game of the recording that has tasks."""


@pytest.fixture(scope="module", params=KNOWN)
def release(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def found(release: str) -> Iterator[list[tuple[str, str]]]:
    if release in replay.RELEASES:
        with run_server(METAGAME_WEB="false") as server:
            yield list(replay.replay_all(release, server.url))
        return
    if release == replay.PAGE:
        with run_server() as server:
            yield list(replay.replay_all(release, server.url))
        return
    with running_app(EchoWithTasks(), mode="production", redis_url=None, web=False) as url, capture_logs():
        yield list(replay.replay_all(release, url))


def test_every_difference_from_the_recordings_is_listed_with_its_reason(
    release: str, found: list[tuple[str, str]]
) -> None:
    unlisted = [
        f"{exchange} | {line}"
        for exchange, line in found
        if not any(
            _fits(name, exchange) and _fits(listed, line)
            for known in KNOWN[release]
            for name in known.exchanges
            for listed in known.lines
        )
    ]
    assert unlisted == []


def test_every_listed_difference_is_still_there(release: str, found: list[tuple[str, str]]) -> None:
    stale = [
        f"{known.reason} | {name} | {listed}"
        for known in KNOWN[release]
        for name in known.exchanges
        for listed in known.lines
        if not any(_fits(name, exchange) and _fits(listed, line) for exchange, line in found)
    ]
    assert stale == []


def test_every_recorded_exchange_was_compared(release: str) -> None:
    names = Counter(recorded["name"] for recorded in replay.exchanges(release))
    assert (
        names.total()
        == len(names)
        == {"0.10.0": 98, "0.1.1": 97, "0.10.0-tools": 18, replay.PRODUCTION: 36, replay.PAGE: 16}[release]
    )


def test_agents_are_answered_in_production_mode_as_in_simulation() -> None:
    """OpenEnv has one handler of `/mcp` for both, so that the recording of its tools stands for both."""
    with run_server() as simulation, run_server(METAGAME_MODE="production") as production:
        found = [
            [(name, re.sub(r"\b[0-9a-f]{32}\b", "an id", line)) for name, line in replay.replay_all(TOOLS_OF, one.url)]
            for one in (simulation, production)
        ]
    assert found[1] == found[0]
    assert found[0]


@pytest.fixture(scope="module")
def permissive() -> Iterator[Server]:
    """A server set to do what the reference server did, where a setting restores that."""
    settings = {"METAGAME_STEP_BEFORE_RESET": "allow", "METAGAME_MAX_MESSAGE_LENGTH": "200000"}
    with run_server(**settings) as server:
        yield server


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("ws step before reset", []),
        ("ws 200kB message", ["0.received.data.reward: 1.0 -> 20000.0"]),
    ],
)
def test_settings_restore_what_the_reference_did(permissive: Server, name: str, left: list[str]) -> None:
    recorded = _recorded("0.10.0", name)
    ours = replay.replay_socket(recorded, permissive.ws_url)
    assert list(replay.differences(replay.expected(recorded), ours)) == left


@pytest.mark.parametrize("name", ANY_STEP)
def test_a_recorded_step_without_a_session_is_refused(permissive: Server, name: str) -> None:
    with replay.client_of(permissive.url) as client:
        ours = replay.replay_http(_recorded("0.10.0", name), client)
    assert (ours["status"], ours["body"]["code"], ours["body"]["reason"]) == (409, "SESSION_ERROR", "session_lost")
    assert ours["body"]["detail"].startswith("This request names no session. Send a reset first")


def _recorded(release: str, name: str) -> dict[str, object]:
    return next(recorded for recorded in replay.exchanges(release) if recorded["name"] == name)


def _fits(pattern: str, text: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), text, re.DOTALL) is not None

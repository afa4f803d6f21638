"""Errors as HTTP answers: `{"detail", "code", "reason", …}`, and nothing internal in them."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from metagame.core import strictjson
from metagame.core.codec import NewerRecord
from metagame.errors import CapacityReached, InvalidRequest, MetaGameError, outward
from metagame.wire.answers import error_body

from .naming import session_headers

RETRY_AFTER_S = 1
JSON = "application/json"


def install(app: FastAPI) -> None:
    """Make every error of the app leave in this form."""
    app.add_exception_handler(MetaGameError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _routing)
    app.add_exception_handler(Exception, _bug)


def problem(error: MetaGameError, request: Request) -> Response:
    """The HTTP answer of an error; a GET may have a status of its own."""
    row = outward(error)
    status = row.read_status if request.method == "GET" and row.read_status is not None else row.status
    added = session_headers(request)
    if isinstance(error, CapacityReached) or error.retryable:
        added["retry-after"] = str(RETRY_AFTER_S)
    if isinstance(error, NewerRecord):
        added["connection"] = "close"  # sent again on a connection that is kept it would come here for ever
    return Response(error_body(error, getattr(request.state, "request_id", None)), status, added, JSON)


def refusal(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """The HTTP answer of what no session has to do with."""
    body = {"detail": detail, "code": HTTPStatus(status).name}
    return Response(strictjson.dumps(body), status, headers, JSON)


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, MetaGameError)  # noqa: S101 - installed for this type
    return problem(error, request)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - installed for this type
    errors = [{key: one[key] for key in ("type", "loc", "msg")} for one in error.errors()]
    message = "Invalid request"
    return await _ours(request, InvalidRequest(message, errors=errors))


async def _routing(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - installed for this type
    return refusal(error.status_code, error.detail, dict(error.headers or {}))


async def _bug(_request: Request, _error: Exception) -> Response:
    # Starlette raises the error again behind this answer, so that the server logs it.
    body = {"detail": "Internal Server Error", "code": "INTERNAL_SERVER_ERROR"}
    return Response(strictjson.dumps(body), 500, media_type=JSON)

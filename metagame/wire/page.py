"""What the routes of OpenEnv's own page take and answer: nearly what its HTTP does.

A step's body may be a message alone, and an answer has no top-level `metadata` where there is none.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from metagame.core import strictjson
from metagame.games import Observation
from metagame.wire.answers import observation_object
from metagame.wire.requests import StepBody, StepRequest, decode_body


class _PageStepBody(StepBody):
    action: dict[str, Any] = Field(default_factory=dict)
    message: Any = None


def decode_page_step(body: bytes) -> StepRequest:
    """The request in the body of `POST /web/step`; a `message` beside an action counts, as it does there."""
    checked = decode_body(_PageStepBody, body)
    action = {"message": checked.message} if "message" in checked.model_fields_set else checked.action
    return StepRequest(action, checked.request_id, checked.expected())


def page_observation_body(answer: Observation, request_id: str | None = None) -> bytes:
    """The HTTP body of a reset or step there."""
    named = {} if request_id is None else {"request_id": request_id}
    return strictjson.dumps(observation_object(answer) | named)

"""A game's models on the client's side: actions to JSON, answers to observations.

Whatever is wrong with an argument is found here, before anything is sent.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from metagame.core import strictjson
from metagame.errors import InvalidAction, InvalidRequest, ProtocolError
from metagame.games import Observation
from metagame.models import MetaGameState, StepResult
from metagame.wire.answers import StateAnswer
from metagame.wire.requests import MAX_SEED, validate_action

ActionT = TypeVar("ActionT", bound=BaseModel)
ObservationT = TypeVar("ObservationT", bound=BaseModel)

_OURS = frozenset({"request_id", "expect"})
_MAX_NAME = 256


def action_payload(action_type: type[ActionT], action: ActionT | Mapping[str, Any]) -> dict[str, Any]:
    """The action as JSON; raises InvalidAction for what is no action of this game."""
    if isinstance(action, Mapping):
        try:
            action = validate_action(action_type, dict(action))
        except InvalidAction as wrong:
            errors = wrong.fields["errors"]
            message = f"This is no {action_type.__name__}: {in_words(errors)}."
            raise InvalidAction(message, errors=errors) from None
    if not isinstance(action, action_type):
        message = f"An action is a {action_type.__name__} or a dict of its fields, not a {type(action).__name__}."
        raise InvalidAction(message, errors=[])
    try:
        payload = action.model_dump(mode="json")
        _check_json(payload)
    except (TypeError, ValueError) as wrong:
        message = (
            f"This action cannot be sent as JSON: {clause(wrong)}. NaN, infinity and lone surrogates are not JSON."
        )
        raise InvalidAction(message, errors=[]) from None
    return payload


def check_reset(seed: int | None, episode_id: str | None, options: Mapping[str, Any]) -> int | None:
    """The seed as an int; raises InvalidRequest where an argument of `reset` cannot be sent."""
    if isinstance(seed, bool):
        raise _bad_seed(seed)
    try:
        number = None if seed is None else operator.index(seed)
    except TypeError:
        raise _bad_seed(seed) from None
    if number is not None and not 0 <= number <= MAX_SEED:
        raise _bad_seed(seed)
    if episode_id is not None and not (isinstance(episode_id, str) and 0 < len(episode_id) <= _MAX_NAME):
        message = f"episode_id is 1 to {_MAX_NAME} characters of text, or None for a new one."
        raise InvalidRequest(message)
    if not _OURS.isdisjoint(options):
        message = "request_id and expect are the client's own: leave them out of the reset's options."
        raise InvalidRequest(message)
    try:
        _check_json([episode_id, dict(options)])
    except (TypeError, ValueError) as wrong:
        message = f"These reset options cannot be sent as JSON: {clause(wrong)}."
        raise InvalidRequest(message) from None
    return number


def step_result(observation_type: type[ObservationT], answer: Observation) -> StepResult[ObservationT]:
    """The answer as the game's observation; fields that the model does not know are left out."""
    known = answer.fields | {"reward": answer.reward, "done": answer.done, "metadata": answer.metadata}
    if observation_type.model_config.get("extra") != "allow":
        known = {key: value for key, value in known.items() if key in observation_type.model_fields}
    try:
        observation = observation_type.model_validate(known)
        reward = None if answer.reward is None else float(answer.reward)
    except (ValidationError, TypeError, ValueError) as wrong:
        message = (
            f"The server's answer is no {observation_type.__name__}, though the request was carried out."
            " Does the server run the same game, in a release that fits this client's?"
        )
        raise ProtocolError(message) from wrong
    return StepResult(observation, reward, answer.done, answer.metadata)


def state_of(answer: StateAnswer) -> MetaGameState:
    """The answer as a state."""
    return MetaGameState(episode_id=answer.episode_id, step_count=answer.step_count)


def _check_json(value: Any) -> None:
    """Raise ValueError or TypeError for what either encoder cannot say; orjson alone turns NaN into null."""
    strictjson.slow_dumps(value)
    strictjson.dumps(value)


def in_words(errors: Any) -> str:
    """Pydantic's list of errors as one line, empty where there is none."""
    if not isinstance(errors, list):
        return ""
    return "; ".join(
        f"{'.'.join(map(str, error.get('loc', ())))}: {clause(error.get('msg'))}"
        for error in errors
        if isinstance(error, dict)
    )


def clause(said: object) -> str:
    """What somebody else said, for the middle of a sentence of ours: without the full stop that it may end with."""
    text = str(said).rstrip()
    return text if text.endswith("...") else text.rstrip(".")


def _bad_seed(seed: object) -> InvalidRequest:
    message = f"seed is an integer from 0 to {MAX_SEED}, or None to have one drawn, not {seed!r}."
    return InvalidRequest(message)

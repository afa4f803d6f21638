"""The echo game: a message in; the same message, its length and a reward of length / 10 out.

python -m metagame.games.echo     exercises the rules without a server
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model

from metagame.games import Observation, State, Tool
from metagame.models import MetaGameAction, MetaGameObservation

READY = "Meta Game environment ready!"
MAX_MESSAGE_LENGTH = 65_536


class EchoWithLength(BaseModel):
    """A message and its length."""

    model_config = ConfigDict(defer_build=True)

    message: str = Field(description="The message")
    length: int = Field(description="Its length in code points")


class EchoGame:
    """Echo; a message may have up to `max_message_length` code points. The state is the step count.

    Its tools, `echo_message` and `echo_with_length`, are those of OpenEnv's own echo environment.
    """

    name = "meta_game"
    description = "Echoes each message with its length; the reward is length / 10."
    version = "1.0.0"
    observation_type: type[BaseModel] = MetaGameObservation

    def __init__(self, max_message_length: int = MAX_MESSAGE_LENGTH) -> None:
        self._max_message_length = max_message_length
        self.action_type: type[BaseModel] = create_model(
            "MetaGameAction",
            __base__=MetaGameAction,
            __doc__=MetaGameAction.__doc__,
            message=_message(max_message_length),
        )

    @cached_property
    def tools(self) -> tuple[Tool, ...]:
        """Made when they are first asked for: most servers never are."""
        arguments: type[BaseModel] = create_model(
            "Message", __config__=ConfigDict(extra="forbid"), message=_message(self._max_message_length)
        )
        return (
            Tool(
                "echo_message",
                "Echo a message back.",
                arguments,
                action=_say,
                result=lambda seen: seen.fields["echoed_message"],
                returns=str,
            ),
            Tool(
                "echo_with_length",
                "Echo a message back, with its length in code points.",
                arguments,
                action=_say,
                result=lambda seen: {"message": seen.fields["echoed_message"], "length": seen.fields["message_length"]},
                returns=EchoWithLength,
            ),
        )

    @property
    def readme(self) -> str | None:
        """The project's README, which is about echo: in the wheel inside the package, in a checkout beside it."""
        for folder in Path(__file__).resolve().parents[1:3]:
            if (readme := folder / "README.md").is_file():
                return readme.read_text(encoding="utf-8")
        return None

    def reset(self, seed: int, options: Mapping[str, Any]) -> tuple[State, Observation]:  # noqa: ARG002 - echo has no chance and no options
        """Start at step 0, ready; echo takes no options and ignores those it is given."""
        return 0, Observation({"echoed_message": READY, "message_length": 0}, reward=0.0)

    def step(self, state: State, action: BaseModel) -> tuple[State, Observation]:
        """Echo one message. Length is in code points; length / 10 gives 0.3 for 3, not 0.30000000000000004."""
        message: str = action.message  # type: ignore[attr-defined]  # the action is one of action_type
        step = state + 1
        length = len(message)
        return step, Observation(
            {"echoed_message": message, "message_length": length},
            reward=length / 10,
            metadata={"original_message": message, "step": step},
        )


def _message(max_length: int) -> Any:
    """The field of a message of up to so many code points."""
    described = MetaGameAction.model_fields["message"].description
    return Annotated[str, StringConstraints(max_length=max_length)], Field(description=described)


def _say(arguments: Any) -> dict[str, Any]:
    return {"message": arguments.message}


def main() -> None:
    """Check the rules one by one and say what was checked; an AssertionError names a broken one."""
    game = EchoGame()

    state, ready = game.reset(seed=7, options={})
    assert (ready.fields["echoed_message"], ready.reward, ready.done) == (READY, 0.0, False)
    print("reset    echoes 'Meta Game environment ready!', length 0, reward 0.0")

    for number, (message, length, reward) in enumerate(
        [("Hello, World!", 13, 1.3), ("one", 3, 0.3), ("", 0, 0.0), ("héé😀", 4, 0.4), ("a\0b", 3, 0.3)], 1
    ):
        before = state
        state, seen = game.step(state, MetaGameAction(message=message))
        assert seen.fields == {"echoed_message": message, "message_length": length}
        assert (seen.reward, seen.done) == (reward, False)
        assert seen.metadata == {"original_message": message, "step": number}
        assert (before, state) == (number - 1, number)
        print(f"step {number}   {message!r}: length {length}, reward {reward}")

    again = game.reset(seed=7, options={})
    assert again == game.reset(seed=7, options={})
    print("repeat   the same seed gives the same episode")

    for bad, why in [({}, "no message"), ({"message": 5}, "not text"), ({"message": "x" * 65_537}, "too long")]:
        try:
            game.action_type.model_validate(bad)
        except ValueError:
            print(f"refused  {why}")
        else:
            text = f"an action was taken that should be refused: {why}"
            raise AssertionError(text)
    for tool in game.tools:
        arguments = tool.arguments.model_validate({"message": "héé😀"})
        _, seen = game.step(0, game.action_type.model_validate(tool.action(arguments)))
        print(f"tool     {tool.name}: {tool.result(seen)!r}")
    assert tool.result(seen) == {"message": "héé😀", "length": 4}
    print("echo: every rule holds")


if __name__ == "__main__":
    main()

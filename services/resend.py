"""Sending the same request to the store again until a deadline, and what to say when it passes.

This is the only place that resends: the Redis client's own retries are off. A verb of the store
is safe to send again, so an answer lost on its way back costs a resend, never a second step.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, ParamSpec, TypeVar

from metagame.core.codec import unknown_format
from metagame.errors import Unavailable

from .store.base import StoreFull, StoreUnavailable, UnreadableRecord

FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 0.5

T = TypeVar("T")
P = ParamSpec("P")
_jitter = random.Random()  # noqa: S311 - spreads resends; the global generator stays untouched


class Deadline:
    """The time one request may spend on the store, and whether a write's outcome is unknown.

    `began`: by time.monotonic(); now where it is not given. `repeatable`: the client gave a request id, so that
    it may send the request again itself.
    """

    __slots__ = ("_ends", "_repeatable", "_why", "began", "unknown")

    def __init__(self, timeout_s: float, *, repeatable: bool, began: float | None = None) -> None:
        self.began = monotonic() if began is None else began
        self._ends = self.began + timeout_s
        self._repeatable = repeatable
        self._why = "was not asked in time"
        self.unknown = False

    def remaining_s(self) -> float:
        """Seconds left, not above zero when it has passed."""
        return self._ends - monotonic()

    def read(self, verb: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """The store's answer to a verb that changes no episode."""
        return self._send(verb, args, kwargs, write=False)

    def write(self, verb: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """The store's answer to a commit; remembers if one was sent whose answer never came.

        None is begun after the deadline: a worker that slept so long finds a session that may have gone on
        past all that it remembers.
        """
        if self.remaining_s() <= 0:
            raise self.passed()
        return self._send(verb, args, kwargs, write=True)

    def after(self, failure: StoreUnavailable, verb: Callable[..., Awaitable[T]], *args: object) -> Awaitable[T]:
        """The store's answer to a commit whose first attempt failed so."""
        return self._send(verb, args, {}, write=True, failure=failure)

    def passed(self) -> Unavailable:
        """The error for a request that got no answer in time."""
        if not self.unknown:
            message = f"The session store {self._why}, and nothing was done. Send the request again in a moment."
            return Unavailable(message, retryable=True)
        if self._repeatable:
            message = (
                "The session store did not answer in time."
                " Send the request again with the same request_id: it happens once."
            )
            return Unavailable(message, retryable=True, outcome="unknown")
        message = (
            "The session store did not answer in time, and this request may or may not have been carried out."
            " Ask for the state before going on; with a request_id it could safely be sent again."
        )
        return Unavailable(message, retryable=False, outcome="unknown")

    async def _send(
        self,
        verb: Callable[..., Awaitable[T]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        write: bool,
        failure: StoreUnavailable | None = None,
    ) -> T:
        if failure is None:
            try:
                return await verb(*args, **kwargs)  # the store bounds one attempt by itself, and by no more than this
            except UnreadableRecord:
                raise unknown_format() from None
            except StoreUnavailable as away:
                failure = away
        self._note(failure, write=write)
        pause_s = FIRST_PAUSE_S
        while self.remaining_s() > pause_s:
            await asyncio.sleep(pause_s * _jitter.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            try:
                async with asyncio.timeout(self.remaining_s()):
                    return await verb(*args, **kwargs)
            except UnreadableRecord:
                raise unknown_format() from None
            except StoreUnavailable as away:
                self._note(away, write=write)
            except TimeoutError:
                self.unknown |= write
        raise self.passed()

    def _note(self, away: StoreUnavailable, *, write: bool) -> None:
        self.unknown |= write and away.unknown
        self._why = "is full" if isinstance(away, StoreFull) else "cannot be reached"

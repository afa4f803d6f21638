"""The two loops: who steps when. What they mean for the numbers stands in the package's docstring."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from array import array
from collections import deque
from collections.abc import Sequence

from metagame.load.alarm import Alarm
from metagame.load.results import Errors, Played
from metagame.load.spec import Play
from metagame.load.stepper import Stepper

_LOOKS_PER_TIMEOUT = 10


class _Loop:
    """What both share: counting, giving up on sockets that do not answer, and knowing when all is done."""

    def __init__(self, steppers: Sequence[Stepper], play: Play, timeout_s: float) -> None:
        self._play = play
        self._steppers = steppers
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = self._loop.create_future()
        self._errors = Errors()
        self._latency_ms = array("d")
        self._unsent = 0
        self._last_answer = 0.0
        self._stopped_already = False

    async def run(self) -> Played:
        """Play it all."""
        gc.collect()
        gc.freeze()
        gc.disable()  # a pause of this process would be taken for one of the server
        cpu_began = time.process_time()
        began = self._last_answer = time.perf_counter()
        watch = self._loop.create_task(self._watch())
        for stepper in self._steppers:
            stepper.on_step, stepper.on_error = self._answered, self._wrong
            for text in stepper.missed:
                self._errors.add(text)
            stepper.missed.clear()
        try:
            self._start(began)
            await self._done
        finally:
            watch.cancel()
            self._leave()
            gc.enable()
        for stepper in self._steppers:
            stepper.rest()
        seconds, cpu_s = self._last_answer - began, time.process_time() - cpu_began
        return Played(len(self._latency_ms), self._unsent, seconds, [cpu_s], self._errors, self._latency_ms)

    def stop(self) -> None:
        """Send no further step; what is under way is waited for."""
        self._stopped_already = True
        self._stopped()

    def _answered(self, stepper: Stepper, now: float) -> None:
        self._latency_ms.append((now - stepper.since) * 1000)
        self._last_answer = now
        self._go_on(stepper, now)

    def _wrong(self, stepper: Stepper, text: str) -> None:
        self._errors.add(text)
        ended, stepper.busy = stepper.busy, False
        self._last_answer = now = time.perf_counter()
        if stepper.lost is not None:
            self._out(stepper, ended=ended)
        elif ended:
            self._go_on(stepper, now)

    def _finish(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._timeout_s / _LOOKS_PER_TIMEOUT)
            too_long = time.perf_counter() - self._timeout_s
            for stepper in self._steppers:
                if stepper.busy and stepper.sent_at < too_long:
                    stepper.give_up(f"no answer within {self._timeout_s:g} s")

    def _start(self, began: float) -> None:
        raise NotImplementedError

    def _go_on(self, stepper: Stepper, now: float) -> None:
        raise NotImplementedError

    def _out(self, stepper: Stepper, *, ended: bool) -> None:
        raise NotImplementedError

    def _stopped(self) -> None:
        raise NotImplementedError

    def _leave(self) -> None:
        """Let go of what is left."""


class ClosedLoop(_Loop):
    """Each socket by itself: step, answer, think, step."""

    def _start(self, began: float) -> None:
        self._thinking: dict[Stepper, asyncio.TimerHandle] = {}
        self._playing = {stepper for stepper in self._steppers if stepper.lost is None}
        steps = self._play.steps
        if steps is None:
            self._end = self._loop.call_later(self._play.duration_s or 0.0, self.stop)
        else:
            self._unsent = steps * (len(self._steppers) - len(self._playing))
        for stepper in list(self._playing):
            stepper.left = -1 if steps is None else steps
            self._go_on(stepper, began)
        self._finish_if_done()

    def _go_on(self, stepper: Stepper, now: float) -> None:
        if stepper.left == 0 or self._stopped_already:
            self._playing.discard(stepper)
            self._finish_if_done()
        elif self._play.think_s:
            wait_s = random.expovariate(1 / self._play.think_s)
            self._thinking[stepper] = self._loop.call_later(wait_s, self._thought, stepper, now + wait_s)
        else:
            stepper.left -= 1
            stepper.step(now)

    def _thought(self, stepper: Stepper, planned: float) -> None:
        """Step; its latency counts from the planned moment, so that whatever came in between counts too."""
        del self._thinking[stepper]
        stepper.left -= 1
        stepper.step(planned)

    def _out(self, stepper: Stepper, *, ended: bool) -> None:  # noqa: ARG002 - it ends either way
        self._unsent += max(stepper.left, 0)
        if handle := self._thinking.pop(stepper, None):
            handle.cancel()
        self._playing.discard(stepper)
        self._finish_if_done()

    def _stopped(self) -> None:
        for stepper, handle in self._thinking.items():
            handle.cancel()
            self._playing.discard(stepper)
        self._thinking.clear()
        self._finish_if_done()

    def _finish_if_done(self) -> None:
        if not self._playing:
            self._finish()


class OpenLoop(_Loop):
    """All sockets in turn, at planned moments; a step whose socket is busy waits its turn there, and the clock runs."""

    def _start(self, began: float) -> None:
        rate_per_s = self._play.rate_per_s or 0.0
        self._every_s = 1 / rate_per_s
        self._begins_at = began + self._play.offset_s
        steps = self._play.steps
        self._planned = (
            round(rate_per_s * (self._play.duration_s or 0.0)) if steps is None else steps * len(self._steppers)
        )
        self._given = 0
        self._under_way = 0
        self._waiting: dict[Stepper, deque[float]] = {stepper: deque() for stepper in self._steppers}
        self._alarm = Alarm(self._due)
        self._due()

    def _due(self) -> None:
        """Give out every step whose moment has come, and wait for the next one's."""
        now = time.perf_counter()
        while self._given < self._planned:
            moment = self._begins_at + self._given * self._every_s
            if moment > now:
                self._alarm.set(moment)
                return
            self._give(self._steppers[self._given % len(self._steppers)], moment)
            self._given += 1
        self._finish_if_done()

    def _give(self, stepper: Stepper, moment: float) -> None:
        if stepper.lost is not None:
            self._unsent += 1
        elif stepper.busy:
            self._under_way += 1
            self._waiting[stepper].append(moment)
        else:
            self._under_way += 1
            stepper.step(moment)

    def _go_on(self, stepper: Stepper, now: float) -> None:  # noqa: ARG002 - the moment is the plan's
        self._under_way -= 1
        if waiting := self._waiting[stepper]:
            stepper.step(waiting.popleft())
        else:
            self._finish_if_done()

    def _out(self, stepper: Stepper, *, ended: bool) -> None:
        lost = self._waiting[stepper]
        self._unsent += len(lost)
        self._under_way -= len(lost) + ended
        lost.clear()
        self._finish_if_done()

    def _finish_if_done(self) -> None:
        if self._given >= self._planned and self._under_way <= 0:
            self._finish()

    def _stopped(self) -> None:
        self._planned = self._given
        self._finish_if_done()

    def _leave(self) -> None:
        self._alarm.close()


def loop_of(steppers: Sequence[Stepper], play: Play, timeout_s: float) -> ClosedLoop | OpenLoop:
    """The loop that the play asks for; call it on the event loop that it is to run on."""
    return (OpenLoop if play.rate_per_s else ClosedLoop)(steppers, play, timeout_s)

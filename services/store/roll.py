"""Who serves the pool, in Redis: what each worker said of itself last.

One hash, a field a worker, at the node that has the places. It is for people to look at: no session depends
on it, and a worker that nobody hears of serves its sockets all the same.
"""

from __future__ import annotations

from . import scripts
from .base import Spoken
from .batch import Batcher
from .keys import workers_key


class Roll:
    """The workers' words."""

    def __init__(self, batcher: Batcher, *, kept_ms: int, prefix: str) -> None:
        self._send = batcher.send
        self._key = workers_key(prefix)
        self._kept_ms = kept_ms

    async def announce(self, worker: str, word: bytes) -> None:
        """Keep a worker's word in place of its last."""
        await self._send(scripts.announce(workers=self._key, worker=worker, word=word, kept_ms=str(self._kept_ms)))

    async def depart(self, worker: str) -> None:
        """Forget a worker."""
        await self._send(scripts.Command(self._key, ("HDEL", self._key, worker)))

    async def read(self) -> list[Spoken]:
        """The words of those who were heard of not too long ago."""
        reply = await self._send(scripts.roll(workers=self._key))
        told = zip(reply[1::3], reply[2::3], reply[3::3], strict=True)
        return [
            Spoken(worker.decode(errors="replace"), max(0, int(age)), word)
            for worker, age, word in told
            if int(age) < self._kept_ms
        ]

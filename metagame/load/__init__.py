"""Load on any OpenEnv echo server, Metagame or another, from processes that cost little beside it.

A `Fleet` starts child processes that open sockets (or kept-alive HTTP connections) and step them,
each answer looked at for the step number and the request id that it must carry:

    with Fleet(Sockets(addresses=(("127.0.0.1", 8000),), count=64), processes=2) as fleet:
        opened = fleet.open()
        played = fleet.play(Play(steps=100))

**Closed and open loop.** In a closed loop each socket sends its next step once it has the answer to
the last (and has thought for a while). A server that stalls for a second is then asked nothing for a
second: one step a socket is slow, and the steps that would have come meanwhile are never sent. Such
numbers say what a caller who waits sees, and nothing of what callers at a given rate would see. In an
open loop steps come at a fixed rate, whether or not the server keeps up, each at a moment that is
planned ahead. A latency counts from the planned moment, so that the waiting of a step whose socket
was still busy counts too: the histogram is free of coordinated omission.
"""

from metagame.load.fleet import Fleet, FleetFailed
from metagame.load.results import Errors, Opened, Played
from metagame.load.spec import Play, Sockets

__all__ = ["Errors", "Fleet", "FleetFailed", "Opened", "Play", "Played", "Sockets"]

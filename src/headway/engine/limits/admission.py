"""Who may begin: the gates of a process, who waits at them, and who is one too many."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import partial

from headway.clock import Clock
from headway.engine.limits.semaphore import FairSemaphore
from headway.engine.request import Request, ToolOptions
from headway.engine.run.run import Run
from headway.errors import ProtocolError
from headway.journal import Journal
from headway.protocol.methods import kind_of
from headway.settings import Settings
from headway.streams import ANONYMOUS, call_of, runs_prefix

BUSY_CODE = -32000
"""JSON-RPC code of a request refused for a limit."""

ANNOUNCE_INTERVAL = 1.0
"""Seconds between updates of the queue position."""


class Admission:
    """The places of a process, of each tool and of each caller."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.all = FairSemaphore(settings.max_runs, "max_runs")
        self.threads = FairSemaphore(settings.threads, "threads")
        self.of_tools: dict[str, FairSemaphore] = {}
        self.of_callers = defaultdict[str, set[str]](set)
        """Calls running and waiting that this process answers, of each principal."""
        self.stuck = Counter[str]()
        """Calls that have their end and go on all the same, by tool; each keeps its places."""
        self.open_of = Counter[str]()
        """Requests of every kind that go on, of each caller that can be told from others."""
        self.entering = 0
        """Runs that are launched, but not at a gate yet."""
        self._settings = settings
        self._clock = clock
        self._telling = False

    @property
    def waiting(self) -> int:
        """How many calls wait for a place."""
        return sum(gate.queued for gate in self._gates()) + self.entering

    def _gates(self) -> Sequence[FairSemaphore]:
        return (self.all, self.threads, *self.of_tools.values())

    def semaphores_of(self, tool: str, options: ToolOptions) -> Sequence[FairSemaphore]:
        """The gates that a call of a tool has to pass, the narrowest first."""
        gates = list[FairSemaphore]()
        if options.concurrency is not None:
            gate = self.of_tools.setdefault(tool, FairSemaphore(options.concurrency, "concurrency"))
            gates.append(gate)
        if options.threaded:
            gates.append(self.threads)
        gates.append(self.all)
        return gates

    def check_room(self, gates: Sequence[FairSemaphore]) -> None:
        """Refuse who would have to wait at these gates where too many do.

        Raises:
            ProtocolError: 503.
        """
        if all(gate.is_open and gate.taken + self.entering < gate.limit for gate in gates):
            return
        waiting = self.waiting
        if waiting >= self._settings.max_queue:
            raise busy_error(
                f"{self.all.taken} calls are running and {waiting} are waiting", "max_queue"
            )

    def check_caller(self, request: Request) -> str:
        """The caller whose calls are counted, or nothing where they are not.

        Raises:
            ProtocolError: 503, the caller has as many as it may, here alone.
        """
        caller = request.principal
        if not kind_of(request.method).is_limited or caller == ANONYMOUS:
            return ""
        self._check_number(len(self.of_callers.get(caller, ())))
        return caller

    def check_open(self, request: Request) -> str:
        """The caller whose open requests are counted, or nothing where nobody can tell whose.

        That is an authenticated caller, with all its sessions, or an anonymous session of 2025.

        Raises:
            ProtocolError: 503, it has as many as it may.
        """
        anonymous = request.principal in ("", ANONYMOUS)
        caller = request.owner if anonymous else request.principal
        if caller in ("", ANONYMOUS):
            return ""
        if self.open_of[caller] >= self._settings.max_open_each:
            raise busy_error(f"{self.open_of[caller]} of your requests are open", "max_open_each")
        return caller

    async def check_everywhere(self, request: Request, journal: Journal) -> None:
        """See that a caller may have one more call, of those of all processes.

        Whoever accepts the request must not wait for anything in between: other requests of this
        process may be accepted then. Those that come to two processes in the same moment, before
        either has stored what it accepted, may both be let in.

        Raises:
            ProtocolError: 503, the caller has as many as it may.
        """
        caller = self.check_caller(request)
        if caller:
            most = self._settings.max_runs_each
            many = await journal.global_count.count_unfinished(
                runs_prefix(caller), lambda: self.of_callers.get(caller, ()), most, part=call_of
            )
            self._check_number(many or 0)

    def _check_number(self, many: int) -> None:
        if many >= self._settings.max_runs_each:
            raise busy_error(f"{many} of your calls are running or waiting", "max_runs_each")

    def count_run(self, caller: str, opener: str, run: Run) -> None:
        """The run is one of these callers' until its end: a call of `caller`, open for `opener`."""
        if opener:
            self.open_of[opener] += 1
            run.on_end(partial(self._close, opener))
        if caller:
            self.of_callers[caller].add(call_of(run.stream))
            run.on_end(partial(self._uncount, caller, call_of(run.stream)))

    def _close(self, opener: str) -> None:
        self.open_of[opener] -= 1
        if not self.open_of[opener]:
            del self.open_of[opener]

    def _uncount(self, caller: str, call: str) -> None:
        self.of_callers[caller].discard(call)
        if not self.of_callers[caller]:
            del self.of_callers[caller]

    def count_stuck(self, tool: str, task: asyncio.Task[None]) -> None:
        """Count a call that was stopped and answered and goes on all the same, until it ends."""
        self.stuck[tool] += 1
        task.add_done_callback(lambda _: self.stuck.subtract([tool]))

    def announce_positions_regularly(self) -> None:
        """Tell those who wait their place, as long as somebody does."""
        if not self._telling:
            self._telling = True
            self._clock.call_later(ANNOUNCE_INTERVAL, self._tell)

    def _tell(self) -> None:
        self._telling = False
        gates = [gate for gate in self._gates() if gate.queued]
        for gate in gates:
            gate.announce_positions()
        if gates:
            self.announce_positions_regularly()


def stopping_error() -> ProtocolError:
    """The refusal of what another process is to do: this one is about to stop."""
    return busy_error("it is stopping")


def busy_error(what: str, limit: str | None = None) -> ProtocolError:
    """The refusal of a request for which there is no room, for the limit with this setting."""
    named = f" ({limit})" if limit else ""
    text = f"The server is busy: {what}{named}. Try again in a few seconds."
    return ProtocolError(BUSY_CODE, text, status=503, retry_after=2, limit=limit)

"""Admission: the limits on running, waiting and open requests of one process."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from math import ceil

from headway.clock import Clock
from headway.engine.limits.semaphore import FairSemaphore
from headway.engine.request import Request, ToolOptions
from headway.engine.run.run import Run
from headway.errors import ProtocolError
from headway.journal import Journal
from headway.protocol.continue_run_tool import CONTINUE_RUN
from headway.protocol.methods import TOOL_CALL, kind_of
from headway.rate_limits import parse_rate
from headway.settings import Settings
from headway.stream_names import ANONYMOUS, call_of, runs_prefix

BUSY_CODE = -32000
"""JSON-RPC code of a request refused for a limit."""

ANNOUNCE_INTERVAL = 1.0
"""Seconds between updates of the queue position."""


class Admission:
    """The limits of a process, of each tool and of each caller, and how far they are used."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.all = FairSemaphore(settings.max_runs, "max_runs")
        self._plain = (self.all,)
        """The semaphores of a call of a tool without options."""
        self.threads = FairSemaphore(settings.threads, "threads")
        self.of_tools: dict[str, FairSemaphore] = {}
        self.of_callers = defaultdict[str, set[str]](set)
        """Running and waiting calls that this process answers, by principal."""
        self._of_callers_tools = defaultdict[str, dict[str, FairSemaphore]](dict)
        """The places of each caller in a tool, while it has calls."""
        self.stuck = Counter[str]()
        """Calls that were ended but whose code goes on, by tool; each still takes its room."""
        self.open_of: dict[str, int] = {}
        """Open requests of every kind, of each caller that can be told from others."""
        self.entering = 0
        """Runs that are accepted, but have not come to a semaphore yet."""
        self._calls_of_tools = dict(settings.calls_of_tools)
        self._calls_each = settings.calls_each
        self._settings = settings
        self._clock = clock
        self._telling = False

    @property
    def waiting(self) -> int:
        """Number of calls that wait until they may execute."""
        return sum(gate.queued for gate in self._all_gates()) + self.entering

    def _all_gates(self) -> Sequence[FairSemaphore]:
        own = chain.from_iterable(gates.values() for gates in self._of_callers_tools.values())
        return (self.all, self.threads, *self.of_tools.values(), *own)

    def semaphores_of(
        self, tool: str, options: ToolOptions, caller: str
    ) -> Sequence[FairSemaphore]:
        """Return the semaphores that a call of a tool has to pass, the narrowest first."""
        if options.concurrency is options.concurrency_each is None and not options.threaded:
            return self._plain
        gates = list[FairSemaphore]()
        if options.concurrency_each is not None and caller not in ("", ANONYMOUS):
            made = FairSemaphore(options.concurrency_each, "concurrency_each")
            gates.append(self._of_callers_tools[caller].setdefault(tool, made))
        if options.concurrency is not None:
            gate = self.of_tools.setdefault(tool, FairSemaphore(options.concurrency, "concurrency"))
            gates.append(gate)
        if options.threaded:
            gates.append(self.threads)
        gates.append(self.all)
        return gates

    def check_room(self, gates: Sequence[FairSemaphore]) -> None:
        """Check that a call may wait at these semaphores, where it would have to.

        Raises:
            ProtocolError: Too many calls wait already (503).
        """
        for gate in gates:
            if not gate.has_room_behind(self.entering):
                break
        else:
            return
        waiting = self.waiting
        if waiting >= self._settings.max_queue:
            raise busy_error(
                f"{self.all.taken} calls are running and {waiting} are waiting", "max_queue"
            )

    def check_caller(self, request: Request) -> str:
        """Return the caller that a call counts for; empty where calls are not counted.

        Raises:
            ProtocolError: The caller has as many calls as it may, in this process alone (503).
        """
        caller = request.principal
        if caller == ANONYMOUS or not kind_of(request.method).is_limited:
            return ""
        self._check_number(len(self.of_callers.get(caller, ())))
        return caller

    def check_open(self, request: Request) -> str:
        """Return the caller that an open request counts for; empty where it cannot be told.

        That is an authenticated caller, with all its sessions, or an anonymous session of 2025.

        Raises:
            ProtocolError: The caller has as many open requests as it may (503).
        """
        anonymous = request.principal in ("", ANONYMOUS)
        caller = request.owner if anonymous else request.principal
        if caller in ("", ANONYMOUS):
            return ""
        is_open = self.open_of.get(caller, 0)
        if is_open >= self._settings.max_open_each:
            raise busy_error(f"{is_open} of your requests are open", "max_open_each")
        return caller

    async def check_everywhere(self, request: Request, journal: Journal) -> None:
        """Check that a caller may have one more call, counted over all processes.

        Await nothing between this and accepting the request: other requests of this process may be
        accepted meanwhile. Two that come to two processes in the same moment, before either has
        stored what it accepted, may both be admitted.

        Raises:
            ProtocolError: The caller has as many calls as it may (503).
        """
        # The number of this process comes first: it costs nothing, and refuses most of those that
        # are too many.
        caller = self.check_caller(request)
        if caller:
            most = self._settings.max_runs_each
            many = await journal.global_count.count_unfinished(
                runs_prefix(caller), lambda: self.of_callers.get(caller, ()), most, part=call_of
            )
            self._check_number(many or 0)

    def rates_of(
        self, request: Request, author: str, is_alias: Callable[[str], bool]
    ) -> dict[str, str]:
        """Return the rates that a request counts for, by what is counted; none but for calls.

        `author` is the rate that the tool's author has set. A name that `is_alias` says may be
        that of any tool counts for all that the operator has named.
        """
        tool, named = request.target or "", self._calls_of_tools
        if not (named or author or self._calls_each):
            return {}  # as for most calls
        if request.method != TOOL_CALL or tool == CONTINUE_RUN:
            return {}
        of_tools = named if named and is_alias(tool) else {tool: named.get(tool, author)}
        rates = {f"calls of {name}": rate for name, rate in of_tools.items()}
        return {what: rate for what, rate in (rates | {"calls": self._calls_each}).items() if rate}

    async def check_rates(self, rates: Mapping[str, str], caller: str, journal: Journal) -> None:
        """Count one for each of these rates of a caller, in all processes that share a journal.

        Raises:
            ProtocolError: That is more often than it may (429); `retry_after` says when to go on.
        """
        for what, rate in rates.items():
            wait = await journal.rates.take(f"{what} by {caller}", parse_rate(rate))
            if wait:
                seconds = ceil(wait)
                raise ProtocolError(
                    BUSY_CODE,
                    f"More than {rate} {what} come from you (calls_each); try again in {seconds} s",
                    status=429,
                    retry_after=seconds,
                    limit="calls_each",
                )

    def _check_number(self, many: int) -> None:
        if many >= self._settings.max_runs_each:
            raise busy_error(f"{many} of your calls are running or waiting", "max_runs_each")

    def count_run(self, caller: str, opener: str, run: Run) -> None:
        """Count a run until its end: as a call of `caller`, and as an open request of `opener`."""
        if opener:
            self.open_of[opener] = self.open_of.get(opener, 0) + 1
            run.on_end(partial(self._end_request, opener))
        if caller:
            self.of_callers[caller].add(call_of(run.stream))
            run.on_end(partial(self._end_call, caller, call_of(run.stream)))

    def _end_request(self, opener: str) -> None:
        is_open = self.open_of[opener] - 1
        if is_open:
            self.open_of[opener] = is_open
        else:
            del self.open_of[opener]

    def _end_call(self, caller: str, call: str) -> None:
        self.of_callers[caller].discard(call)
        if not self.of_callers[caller]:
            del self.of_callers[caller]
            self._of_callers_tools.pop(caller, None)

    def count_stuck(self, tool: str, task: asyncio.Task[None]) -> None:
        """Count a call that was stopped and answered but whose code goes on, until that ends."""
        self.stuck[tool] += 1
        task.add_done_callback(lambda _: self.stuck.subtract([tool]))

    def announce_positions_regularly(self) -> None:
        """Announce their positions to waiting calls every second, until none waits."""
        if not self._telling:
            self._telling = True
            self._clock.call_later(ANNOUNCE_INTERVAL, self._announce_positions)

    def _announce_positions(self) -> None:
        self._telling = False
        gates = [gate for gate in self._all_gates() if gate.queued]
        for gate in gates:
            gate.announce_positions()
        if gates:
            self.announce_positions_regularly()


def stopping_error() -> ProtocolError:
    """Return the refusal (503) of a process that is about to stop."""
    return busy_error("it is stopping")


def busy_error(what: str, limit: str | None = None) -> ProtocolError:
    """Return the refusal (503) of a request for which there is no room; `limit` is the setting."""
    named = f" ({limit})" if limit else ""
    text = f"The server is busy: {what}{named}. Try again in a few seconds."
    return ProtocolError(BUSY_CODE, text, status=503, retry_after=2, limit=limit)

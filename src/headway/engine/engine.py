"""The engine: starts runs, keeps them within limits, and sees that each one ends in the journal.

This module must not know HTTP, sessions or eras. A caller hands it what to execute and reads
the run's stream; when the caller goes away the run does not.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import Any

import anyio
import anyio.to_thread
from mcp.shared.jsonrpc_dispatcher import handler_exception_to_error_data
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import INTERNAL_ERROR

from headway.clock import Clock
from headway.engine.context import RunContext
from headway.engine.current import current_run
from headway.engine.gate import Gate
from headway.engine.inbox import Inboxes
from headway.engine.keys import Keys
from headway.engine.lease import Lease
from headway.engine.request import Execute, Request, ToolOptions
from headway.engine.run import Run
from headway.errors import JournalError, ProtocolError, RunCancelled, ToolTimeout
from headway.events import (
    Accepted,
    Cancelled,
    Completed,
    Entry,
    Event,
    Failed,
    GivenBack,
    HandedOver,
    Interrupted,
    Restarted,
    Started,
    encode_json,
)
from headway.journal import Journal
from headway.runs import RunView, fold
from headway.settings import Settings

logger = logging.getLogger(__name__)

REQUEST_TIMEOUT = -32001
"""JSON-RPC code of a run that hit its time limit; the number the TypeScript SDK uses."""

BUSY = -32000
"""JSON-RPC code of a request refused for a limit."""

ATTEMPTS = 3
"""Processes that may die of one run before it is ended as interrupted."""

STOP_WITHIN = 10.0
"""Seconds that runs get to end by themselves when the engine stops."""

ANNOUNCE_EVERY = 1.0
"""Seconds between updates of the queue position."""


class Engine:
    """All runs of this process.

    `options` tells the limits of a tool by its name.
    """

    def __init__(
        self,
        journal: Journal,
        settings: Settings,
        *,
        clock: Clock | None = None,
        options: Callable[[str], ToolOptions] | None = None,
    ) -> None:
        self.journal = journal
        self.settings = settings
        self.clock = clock or Clock()
        self.runs: dict[str, Run] = {}
        self._options = options or _no_options
        self._all = Gate(settings.max_runs)
        self._threads = Gate(settings.threads)
        self._tools: dict[str, Gate] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.keys = Keys(journal)
        self._lease = Lease(
            journal,
            self.clock,
            settings.lease,
            lost=self._interrupt_all,
            revive=self._revive,
            recovered=self.keys.sweep,
        )
        self.reopen: Callable[[Accepted], Execute] | None = None
        """What executes a request again that only the journal knows of."""
        self.inboxes = Inboxes(journal)
        self.has_windows: Callable[[], bool] = bool
        """Whether the author of a tool set a window for it."""
        self.is_draining = False
        """No more tool calls are accepted: the process is about to stop."""
        self._telling = False
        self._arriving = 0  # launched, but not at a gate yet

    async def start(self) -> None:
        """Make ready on the running loop."""
        limiter = anyio.to_thread.current_default_thread_limiter()
        limiter.total_tokens = max(limiter.total_tokens, self.settings.threads)
        await self._lease.take()

    async def stop(self) -> None:
        """End every run as interrupted; returns when all of them are in the journal."""
        for run in list(self.runs.values()):
            # Threads hear of it too, at their next word: a cancelled task would wait for them.
            run.stop(Interrupted("the server stopped before the run was done"))
            if run.task is not None:
                run.task.cancel()
        # A thread that does not come back has an end all the same, and is not waited for.
        limit = time.monotonic() + STOP_WITHIN
        while self.runs and self._tasks and time.monotonic() < limit:
            await asyncio.wait(self._tasks, timeout=0.1, return_when=asyncio.FIRST_COMPLETED)
        for run in list(self.runs.values()):
            # Its task never began, or a thread of it does not come back.
            self._end(run, _ended_in_queue(run))
        await self.inboxes.stop()
        await self.keys.stop()
        await self._lease.release()

    @property
    def offers_handles(self) -> bool:
        """Whether a call may be answered with a plain handle: author or operator said when."""
        own = self.settings.hand_over
        return (own is not None and own < inf) or self.has_windows()

    def handed_over(self, run: Run) -> HandedOver:
        """The fact that a run has a handle from now on."""
        age = self.clock.now() - run.born
        limit = self.options_of(run.target).timeout or self.settings.timeout
        return HandedOver(self.clock.time() - age, limit + self.journal.retention.ttl)

    def options_of(self, tool: str | None) -> ToolOptions:
        """What the author set for a tool."""
        return self._options(tool or "")

    def launch(self, request: Request) -> Run:
        """Start a run and return it; it executes on its own, whoever reads it.

        Raises:
            ProtocolError: The server has as many runs and as long a queue as it may (503).
        """
        run = self.accept(request)
        self.begin(run, request)
        return run

    def accept(self, request: Request) -> Run:
        """Make a run of a request; it has its first entry, and waits for `begin` or `discard`.

        Raises:
            ProtocolError: The server has as many runs and as long a queue as it may (503).
        """
        is_tool = request.method == "tools/call"
        self._check_room(self._gates_of(request))
        if request.follows and len(self.runs) >= self.settings.max_runs + self.settings.max_queue:
            raise _busy(f"{len(self.runs)} requests are open")
        run_id = self._lease.tag + secrets.token_urlsafe(24)
        stream = f"run/{request.owner}/{run_id}"
        options = self._options_for(request)
        run = self._run(stream, _accepted(request, options), request, options, recorded=is_tool)
        self.runs[run.id] = run
        return run

    def discard(self, run: Run) -> None:
        """End a run that was accepted and is not to be executed."""
        self._end(run, Cancelled("server", "the call is going on already"))

    def _options_for(self, request: Request) -> ToolOptions:
        """The limits of what is executed for a request."""
        is_executed = request.method == "tools/call" and request.follows is None
        return self.options_of(request.target) if is_executed else _NO_OPTIONS

    def _run(
        self,
        stream: str,
        accepted: Accepted,
        request: Request,
        options: ToolOptions,
        *,
        recorded: bool = True,
        view: RunView | None = None,
    ) -> Run:
        beats = request.context.token is not None or view is not None
        return Run(
            stream.rpartition("/")[2],
            stream,
            accepted,
            engine=self,
            principal=request.principal,
            follows=request.follows,
            rate=self.settings.progress_rate if options.rate is None else options.rate,
            heartbeat=self.settings.heartbeat if beats else None,
            recorded=recorded,
            view=view,
        )

    def begin(self, run: Run, request: Request) -> None:
        """Have an accepted run executed, in a task of its own."""
        options = self._options_for(request)
        gates = self._gates_of(request)
        run.detached = self.options_of(request.target).detached
        run.give_up = partial(self._give_up, run)
        request.context.bind(run)
        self.runs[run.id] = run
        self._arriving += bool(gates)
        # `subscriptions/listen` and the like last as long as their reader.
        limit = (options.timeout or self.settings.timeout) if gates else None
        run.task = task = asyncio.create_task(self._pass_and_execute(run, request, gates, limit))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _revive(self, stream: str) -> bool:
        """Begin the run of a dead process anew, if its tool may be; False when it has to end.

        Whoever is quicker than others to append the `Restarted` has it.
        """
        entries = await self.journal.kept(stream)
        accepted, tries = entries[0].event, _tries(entries)
        if not isinstance(accepted, Accepted) or accepted.params is None or self.reopen is None:
            return False
        options = self.options_of(accepted.target)
        if tries and await self._lease.is_alive(tries[-1].process):
            return True
        returns = sum(isinstance(entry.event, GivenBack) for entry in entries)
        if not options.restart or len(tries) - returns + 1 >= ATTEMPTS:
            return False
        restarted = Restarted(self._lease.tag, len(tries) + 2)
        try:
            await self.journal.attach(stream)
            seq = await self.journal.append(stream, [restarted], after=entries[-1].seq)
        except JournalError as error:
            logger.debug("%s is restarted by another process: %s", stream, error)
            return True
        view = fold([*entries, Entry(seq, self.clock.time(), restarted)])
        context = RunContext(0, _NOBODY, ServerMessageMetadata(), None, {})
        execute = self.reopen(accepted)
        request = Request(accepted.method, accepted.target, accepted.owner, context, execute)
        run = self._run(stream, accepted, request, options, view=view)
        logger.warning("run %s: %s is begun anew", run.reference, run.target)
        self.begin(run, request)
        await self.inboxes.resume(run)
        return True

    def _gates_of(self, request: Request) -> Sequence[Gate]:
        """The gates that the run of a request has to pass, the narrowest first."""
        if request.method != "tools/call" or request.follows is not None:
            return ()
        options, gates = self.options_of(request.target), list[Gate]()
        if options.concurrency is not None:
            gates.append(self._tools.setdefault(request.target or "", Gate(options.concurrency)))
        if options.threaded:
            gates.append(self._threads)
        gates.append(self._all)
        return gates

    # Executing

    async def _pass_and_execute(
        self, run: Run, request: Request, gates: Sequence[Gate], limit: float | None
    ) -> None:
        passed: list[Gate] = []
        self._arriving -= bool(gates)
        try:
            for gate in gates:
                await self._pass(gate, run)
                passed.append(gate)
            if run.stopping is None:
                await self._execute(run, request, limit)
            else:
                self._end(run, run.stopping)
        except asyncio.CancelledError:
            self._end(run, _ended_in_queue(run))
            if run.stopping is None:
                raise
        finally:
            for gate in passed:
                gate.leave()

    async def _pass(self, gate: Gate, run: Run) -> None:
        if gate.is_open:
            await gate.enter(_silent)
            return
        run.start_beating()
        self._keep_telling()
        with anyio.CancelScope() as run.scope:
            if run.stopping is not None:
                run.scope.cancel()
            await gate.enter(lambda ahead: run.announce(f"Queued, {ahead} ahead"))
        if run.scope.cancelled_caught:
            raise asyncio.CancelledError

    async def _execute(self, run: Run, request: Request, limit: float | None) -> None:
        """Call the handler and write how it ended. Whatever happens, an end is written."""
        token = current_run.set(run)
        event: Event = Interrupted("the server stopped before the run was done")
        success = False
        timer = None
        if limit is not None:
            timer = self.clock.call_later(limit, partial(run.stop, _timeout(run, limit)))
        try:
            run.append(Started())
            run.start_beating()
            with anyio.CancelScope() as run.scope:
                if run.stopping is not None:
                    run.scope.cancel()
                result = await request.execute(request.context)
                event, success = Completed(encode_json(result)), is_success(result)
            if run.scope.cancelled_caught and run.stopping is not None:
                event = run.stopping
        except RunCancelled:
            event = run.stopping or event
        except Exception as error:  # noqa: BLE001 - the user's tool: anything can come out
            event = _failure(run, error)
        finally:
            current_run.reset(token)
            run.scope = None
            if timer is not None:
                timer.cancel()
            self._end(run, event, success=success)

    def _give_up(self, run: Run) -> None:
        """A stopped run does not come back: end it for those who read it."""
        if not run.ended:
            logger.warning(
                "run %s: %s was stopped but goes on; its result will be dropped",
                run.reference,
                run.target or run.method,
            )
            self._end(run, _ended_in_queue(run))

    def _end(self, run: Run, event: Event, *, success: bool = False) -> None:
        """Write the terminal entry, unless there is one."""
        if run.ended:
            return
        try:
            run.finish(event, success=success)
        except JournalError as error:
            # Another process has taken the run over, or the journal is gone: not ours to end.
            logger.warning("run %s: its end could not be written: %s", run.reference, error)
        finally:
            self.runs.pop(run.id, None)

    def _interrupt_all(self) -> None:
        """Another process has ended our runs: stop working on them."""
        for run in list(self.runs.values()):
            run.stop(Interrupted("another process took the run over"))

    # Limits

    def _check_room(self, gates: Sequence[Gate]) -> None:
        arriving = self._arriving
        if gates and self.is_draining:
            raise _busy("it is stopping")
        if all(gate.is_open and gate.taken + arriving < gate.limit for gate in gates):
            return
        queued = sum(gate.queued for gate in (self._all, self._threads, *self._tools.values()))
        waiting = queued + arriving
        if waiting >= self.settings.max_queue:
            raise _busy(f"{self._all.taken} calls are running and {waiting} are waiting")

    def _keep_telling(self) -> None:
        """Tell those who wait their place, as long as somebody does."""
        if not self._telling:
            self._telling = True
            self.clock.call_later(ANNOUNCE_EVERY, self._tell)

    def _tell(self) -> None:
        self._telling = False
        gates = [gate for gate in (self._all, self._threads, *self._tools.values()) if gate.queued]
        for gate in gates:
            gate.tell()
        if gates:
            self._keep_telling()


_NO_OPTIONS = ToolOptions()
_NOBODY = TransportContext(kind="restart", can_send_request=False)


def _accepted(request: Request, options: ToolOptions) -> Accepted:
    """The first entry of a run; with all that it takes to begin it anew, where that may be."""
    if not options.restart:
        return Accepted(request.method, request.target, request.owner)
    params = encode_json(request.context.body.get("params"))
    return Accepted(request.method, request.target, request.owner, request.version, params)


def _busy(what: str) -> ProtocolError:
    text = f"The server is busy: {what}. Try again in a few seconds."
    return ProtocolError(BUSY, text, status=503, retry_after=2)


def _tries(entries: list[Entry]) -> list[Restarted]:
    return [entry.event for entry in entries if isinstance(entry.event, Restarted)]


def _no_options(_tool: str) -> ToolOptions:
    return _NO_OPTIONS


def is_success(result: dict[str, Any]) -> bool:
    """Whether a result says that the work is done: no tool error, no question back."""
    return result.get("isError") is not True and result.get("resultType", "complete") == "complete"


def _silent(_ahead: int) -> None:
    pass


def _ended_in_queue(run: Run) -> Event:
    return run.stopping or Interrupted("the server stopped before the run began")


def _timeout(run: Run, limit: float) -> Event:
    error = ToolTimeout(limit)
    return Failed(REQUEST_TIMEOUT, f"{run.target or run.method} {error} and was stopped")


def _failure(run: Run, error: Exception) -> Event:
    """The terminal event for what a handler raised; nothing of an unexpected error leaks."""
    known = handler_exception_to_error_data(error)
    if known is not None:
        data = None if known.data is None else encode_json(known.data)
        return Failed(known.code, known.message, data)
    reference = run.reference
    logger.error("run %s: the handler raised", reference, exc_info=error)
    return Failed(INTERNAL_ERROR, f"Internal server error (reference {reference})")

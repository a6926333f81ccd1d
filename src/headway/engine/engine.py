"""The engine: starts runs, keeps them within limits, and sees that each one ends in the journal.

This module must not know HTTP, sessions or eras. A caller hands it what to execute and reads
the run's stream; when the caller goes away the run does not.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import Any

import anyio
import anyio.to_thread
from msgspec import structs

from headway.background import BackgroundTasks
from headway.clock import Clock
from headway.counters import Counters
from headway.engine.failures import Kind, judge_failure
from headway.engine.idempotency import NEVER_EXECUTED, RunNames
from headway.engine.limits.admission import Admission, busy_error, stopping_error
from headway.engine.limits.semaphore import FairSemaphore
from headway.engine.recovery.checkpoints import Checkpoints
from headway.engine.recovery.drain import stop_or_release
from headway.engine.recovery.lease import Lease
from headway.engine.recovery.recover import Recovery
from headway.engine.recovery.take_over import is_found, stored_request, sweep_checkpoints
from headway.engine.remote.process_inbox import ProcessInbox
from headway.engine.remote.remote_answers import RemoteAnswers
from headway.engine.remote.run_inbox import RunInboxes
from headway.engine.request import Execute, Request, ToolOptions
from headway.engine.run.accounting import count_end
from headway.engine.run.cancellation import SERVER_STOPPED, TAKEN_OVER
from headway.engine.run.current import current_run
from headway.engine.run.endings import (
    end_in_queue,
    end_of_failure,
    end_of_result,
    end_of_time,
    run_stoppable,
)
from headway.engine.run.large_results import is_success
from headway.engine.run.run import Run
from headway.engine.run.threads import carry_runs, working_runs
from headway.engine.workers.dispatch import Dispatch
from headway.engine.workers.execute import QueuedWork
from headway.errors import JournalError
from headway.events import Event, HandedOver, RequestStored, Started
from headway.journal import Journal
from headway.run_state import RunView
from headway.settings import Settings
from headway.streams import call_of, new_call_id, process_of, run_stream

logger = logging.getLogger(__name__)

RUNS_STOP_TIMEOUT = 10.0
"""Seconds that runs get to end by themselves when the engine stops."""


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
        counters: Counters | None = None,
    ) -> None:
        self.journal = journal
        self.settings = settings
        self.clock = clock or Clock()
        self.runs: dict[str, Run] = {}
        self._options = options or _no_options
        self.tally = counters or Counters()
        self.admission = Admission(settings, self.clock)
        self._tasks = BackgroundTasks("runs")
        self._loop_life: asyncio.Task[None] | None = None
        self.idempotency = RunNames(journal, settings)
        self._process_inbox = ProcessInbox(journal, self.runs)
        self.recovery = Recovery(self)
        self.lease = Lease(
            journal,
            self.clock,
            settings.lease,
            hold_timeout=settings.hold_timeout,
            lost=self._lose_all,
            revive=self.recovery.recover_run,
            recovered=self._sweep,
            taken=self._process_inbox.open,
            for_workers=self._look_after,
        )
        self.dispatch = Dispatch(self)
        self.queued_work = QueuedWork(self)
        self.executor_for: Callable[[RequestStored], Execute] | None = None
        """What executes a request again that only the journal knows of."""
        self.on_run_released: Callable[[Run], None] = _nothing
        """Told of runs that stop here and that their clients may ask for again."""
        self.inboxes = RunInboxes(journal)
        self.remote_answers = RemoteAnswers(journal)
        self.has_windows: Callable[[], bool] = bool
        """Whether the author of a tool set a window for it."""
        self.most_result = inf  # bytes; more becomes a resource, where the server has any
        self.is_draining = False  # no more tool calls: the process is about to stop
        self.is_over = False  # nothing is begun any more, and what went on was stopped

    async def start(self) -> None:
        """Make ready on the running loop."""
        limiter = anyio.to_thread.current_default_thread_limiter()
        limiter.total_tokens = max(limiter.total_tokens, self.settings.threads)
        carry_runs()
        self._loop_life = asyncio.create_task(_last_as_long_as_the_loop())
        await self.lease.begin_lease()

    async def stop(self) -> None:
        """End every run as interrupted; returns when all of them are in the journal."""
        for run in list(self.runs.values()):
            # Threads hear of it too, at their next word: a cancelled task would wait for them.
            run.stop(SERVER_STOPPED)
            if run.task is not None and run.cancellation.out.is_set():
                run.task.cancel()
        # A thread that does not come back has an end all the same, and is not waited for.
        limit = time.monotonic() + RUNS_STOP_TIMEOUT
        while self.runs and self._tasks and time.monotonic() < limit:
            await self._tasks.wait_for_one(0.1)
        for run in list(self.runs.values()):
            # Its task never began, or a thread of it does not come back.
            self._end(run, end_in_queue(run))
        await self.dispatch.stop()
        await self.inboxes.stop()
        await self.remote_answers.stop()
        await self.idempotency.stop()
        await self._process_inbox.close()
        await self.lease.give_up_lease()
        if self._loop_life is not None:
            self._loop_life.cancel()

    @property
    def _is_loop_ending(self) -> bool:
        """Whether all tasks of the loop are being cancelled, and not a run by its own code."""
        return self._loop_life is not None and self._loop_life.cancelling() > 0

    @property
    def offers_handles(self) -> bool:
        """Whether a call may be answered with a plain handle: author or operator said when."""
        own = self.settings.hand_over
        return (own is not None and own < inf) or self.has_windows()

    @property
    def offers_tasks(self) -> bool:
        """Whether a call of a client that knows tasks may become one."""
        return self.settings.hand_over != inf or self.has_windows()

    def handed_over(self, run: Run) -> HandedOver:
        """The fact that a run has a handle from now on."""
        age = self.clock.now() - run.born
        limit = self.options_of(run.target).timeout or self.settings.timeout
        return HandedOver(self.clock.time() - age, limit + self.journal.retention.ttl)

    async def is_of_another(self, stream: str) -> bool:
        """Whether a run's stream was begun by another process that is alive.

        Raises:
            JournalError: The journal cannot be read.
        """
        tag = process_of(stream)
        return tag != self.lease.tag and await self.lease.is_alive(tag)

    def options_of(self, tool: str | None) -> ToolOptions:
        """What the author set for a tool."""
        return self._options(tool or "")

    def start_run(self, request: Request) -> Run:
        """Start a run and return it; it executes on its own, whoever reads it.

        Raises:
            ProtocolError: The server has as many runs and as long a queue as it may (503).
        """
        run = self.accept_request(request)
        self.execute_accepted(run, request)
        return run

    def accept_request(self, request: Request) -> Run:
        """Make a run of a request; it has its first entry, and waits for `begin` or `discard`.

        Raises:
            ProtocolError: The server has as many runs and as long a queue as it may (503).
        """
        if self.is_over or (self.is_draining and request.method == "subscriptions/listen"):
            raise stopping_error()
        self._check_room(self._gates_of(request))
        if len(self.runs) >= self.settings.max_open:
            raise busy_error(f"{len(self.runs)} requests are open", "max_open")
        caller, opener = self.admission.check_caller(request), self.admission.check_open(request)
        call = call_of(request.follows) if request.owns and request.follows else new_call_id()
        run_id = self.lease.tag + call
        stream = run_stream(request.owner, run_id)
        run = self.make_run(stream, request, recorded=request.method == "tools/call")
        self.runs[run.id] = run
        self.admission.count_run(caller, opener, run)
        return run

    def discard_accepted(self, run: Run) -> None:
        """End a run that was accepted and is not to be executed."""
        if not run.ended:
            self._write_end(run, NEVER_EXECUTED)

    def _options_for(self, request: Request) -> ToolOptions:
        """The limits of what is executed for a request."""
        is_executed = request.method == "tools/call" and request.follows is None
        return self.options_of(request.target) if is_executed else _NO_OPTIONS

    def _may_restart(self, request: Request) -> bool:
        """Whether another process may go on with it: who only repeats a run does nothing twice."""
        is_repeating = request.follows is not None
        is_call = request.method == "tools/call"
        return is_call and (is_repeating or self.options_of(request.target).restart)

    def make_run(
        self, stream: str, request: Request, *, recorded: bool = True, view: RunView | None = None
    ) -> Run:
        """A run of a request, which goes on behind what `view` says."""
        options = self._options_for(request)
        rate = self.settings.progress_rate if options.rate is None else options.rate
        beats = request.context.token is not None or view is not None
        run = Run(
            stream,
            request,
            engine=self,
            rate=0 if request.owns else rate,  # what a worker says is paced already
            heartbeat=self.settings.heartbeat if beats else None,
            recorded=recorded,
            view=view,
        )
        run.detached = self.options_of(request.target).detached
        return run

    def store_request(self, run: Run, request: Request) -> None:
        """Keep what another process needs to go on with a run, where one may."""
        if run.checkpoints is None and self._may_restart(request):
            begun = stored_request(request, can_ask=request.owns)
            if request.owns:
                begun = structs.replace(begun, is_found=is_found(run))
            run.checkpoints = Checkpoints.begin(self.journal, run.stream, begun)

    def execute_accepted(self, run: Run, request: Request) -> None:
        """Have an accepted run executed, in a task of its own."""
        options = self._options_for(request)
        # Not before: what was only accepted may be discarded, and must not be begun anew.
        self.store_request(run, request)
        gates = self._gates_of(request)
        run.give_up = partial(self._give_up, run)
        request.context.bind(run)
        self.runs[run.id] = run
        self.admission.entering += bool(gates)
        # `subscriptions/listen` and the like last as long as their reader.
        limit = (options.timeout or self.settings.timeout) if gates else None
        run.task = self._tasks.start(self._pass_and_execute(run, request, gates, limit))

    async def _look_after(self, streams: Sequence[str]) -> None:
        if self.dispatch.queues is not None:
            await self.queued_work.look_after(streams)

    async def _sweep(self) -> None:
        await self.idempotency.sweep()
        await self.remote_answers.sweep(self.lease)
        await sweep_checkpoints(self.journal)

    def _gates_of(self, request: Request) -> Sequence[FairSemaphore]:
        """The gates that the run of a request has to pass, the narrowest first."""
        if request.method != "tools/call" or request.follows is not None:
            return ()
        return self.admission.semaphores_of(request.target or "", self.options_of(request.target))

    # Executing

    async def _pass_and_execute(
        self, run: Run, request: Request, gates: Sequence[FairSemaphore], limit: float | None
    ) -> None:
        passed: list[FairSemaphore] = []
        self.admission.entering -= bool(gates)
        try:
            for gate in gates:
                await self._pass(gate, run)
                passed.append(gate)
            if run.stop_event is None:
                await self._execute(run, request, limit)
            else:
                self._end(run, run.stop_event)
        except asyncio.CancelledError:
            self._end(run, end_in_queue(run))
            if run.stop_event is None:
                raise
        finally:
            for gate in passed:
                gate.leave()

    async def _pass(self, gate: FairSemaphore, run: Run) -> None:
        if gate.is_open:
            await gate.enter(_silent)
            return
        self.tally.limit_hit(gate.setting)
        run.start_heartbeat()
        self.admission.announce_positions_regularly()
        with anyio.CancelScope() as run.scope:
            if run.stop_event is not None:
                run.scope.cancel()
            await gate.enter(lambda ahead: run.announce(f"Queued, {ahead} ahead"))
        if run.scope.cancelled_caught:
            raise asyncio.CancelledError

    async def _execute(self, run: Run, request: Request, limit: float | None) -> None:
        """Call the handler and write how it ended. Whatever happens, an end is written."""
        token = current_run.set(run)
        working_runs.add(run)
        end, result = end_in_queue(run), None
        timer = None
        if limit is not None:
            timer = self.clock.call_later(limit, partial(run.stop, end_of_time(run, limit)))
        try:
            run.append(Started())
            run.start_heartbeat()
            with run_stoppable(run):
                result = await request.execute(request.context)
            end, result = end_of_result(run, result, most=self.most_result)
        except BaseException as error:
            failure = judge_failure(
                error, asked=run.stop_event is not None, ending=self._is_loop_ending
            )
            end, result = end_of_failure(run, failure, error)
            if failure.kind is Kind.PASSING:
                raise
        finally:
            current_run.reset(token)
            working_runs.discard(run)
            if timer is not None:
                timer.cancel()
            self._end(run, end, result)

    def _give_up(self, run: Run) -> None:
        """A stopped run does not come back: end it for those who read it."""
        if not run.ended:
            logger.warning(
                "run %s: %s was stopped but goes on; its result will be dropped",
                run.reference,
                run.target or run.method,
            )
            if run.task is not None:
                self.admission.count_stuck(run.target or run.method, run.task)
            self._end(run, end_in_queue(run))

    def _end(self, run: Run, event: Event, result: dict[str, Any] | None = None) -> None:
        """Write the terminal entry, unless there is one, and count the run."""
        if not run.ended:
            count_end(self.tally, run, event, result)
            self._write_end(run, event, success=result is not None and is_success(result))

    def _write_end(self, run: Run, event: Event, *, success: bool = False) -> None:
        try:
            run.write_end(event, success=success)
        except JournalError as error:
            # Another process has taken the run over, or the journal is gone: not ours to end.
            logger.warning("run %s: its end could not be written: %s", run.reference, error)
        finally:
            self.runs.pop(run.id, None)

    def _lose_all(self) -> None:
        """Another process took this one for dead, and its runs: stop working on them."""
        for run in [run for run in self.runs.values() if run.task is not None]:
            stop_or_release(self, run, TAKEN_OVER)

    # Limits

    def _check_room(self, gates: Sequence[FairSemaphore]) -> None:
        if gates and self.is_draining:
            raise stopping_error()
        if gates and self.journal.is_behind:
            raise busy_error("its journal cannot be written", "keep.max_bytes")
        self.admission.check_room(gates)


_NO_OPTIONS = ToolOptions()


def _no_options(_tool: str) -> ToolOptions:
    return _NO_OPTIONS


def _nothing(_run: Run) -> None:
    pass


def _silent(_ahead: int) -> None:
    pass


async def _last_as_long_as_the_loop() -> None:
    await asyncio.get_running_loop().create_future()

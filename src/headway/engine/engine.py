"""The engine: starts runs, keeps them within limits, and sees that each one ends in the journal.

This module must not know HTTP, sessions or eras. A caller hands it what to execute and reads
the run's stream; when the caller goes away the run does not.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from msgspec import structs

from headway.background import BackgroundTasks
from headway.clock import Clock
from headway.counters import Counters
from headway.engine.idempotency import NEVER_EXECUTED, RunNames
from headway.engine.lifecycle import Phase
from headway.engine.limits.admission import Admission, busy_error, stopping_error
from headway.engine.limits.semaphore import FairSemaphore
from headway.engine.recovery.checkpoints import Checkpoints
from headway.engine.recovery.lease import Lease
from headway.engine.recovery.restart_or_end import Recovery
from headway.engine.recovery.runs_at_stop import RunsAtStop
from headway.engine.recovery.stored_request import is_found, stored_request
from headway.engine.recovery.take_over import sweep_ended
from headway.engine.remote.process_inbox import ProcessInbox
from headway.engine.remote.remote_answers import RemoteAnswers
from headway.engine.remote.run_inbox import RunInboxes
from headway.engine.request import Request, RequestInfo
from headway.engine.run.cancellation import SERVER_STOPPED, TAKEN_OVER
from headway.engine.run.current_run import current_run
from headway.engine.run.end_counts import count_end
from headway.engine.run.end_events import (
    RunScope,
    add_note,
    end_in_queue,
    end_of_failure,
    end_of_result,
    end_of_time,
)
from headway.engine.run.end_line import log_end
from headway.engine.run.large_results import is_success
from headway.engine.run.run import Run
from headway.engine.run.threads import carry_runs, working_runs
from headway.engine.services import EngineOptions, Services
from headway.engine.tool_access import ToolAccess
from headway.engine.tool_failures import Kind, judge_failure
from headway.engine.workers.dispatch import Dispatch
from headway.engine.workers.queued_runs import QueuedWork
from headway.errors import JournalError
from headway.events import Event, RetryRequested, Started
from headway.journal import Journal
from headway.log_lines import quiet_logger
from headway.queues import Queues
from headway.run_state import RunView
from headway.settings import Settings
from headway.stream_names import call_of, new_call_id, run_stream

logger = quiet_logger(__name__)

RUNS_STOP_TIMEOUT = 10.0
"""Seconds that runs get to end by themselves when the engine stops."""


class Engine:
    """Executes the runs of one process, within its limits, and writes how each one ends.

    Args:
        journal: Opened before `start`, and closed after `stop`.
        settings: Of the server.
        clock: Of the server; tests have one of their own.
        options: Facts about the server whose requests it executes.
        counters: Counters, which may outlive the engine.
    """

    def __init__(
        self,
        journal: Journal,
        settings: Settings,
        *,
        clock: Clock | None = None,
        options: EngineOptions | None = None,
        counters: Counters | None = None,
    ) -> None:
        options = options or EngineOptions()
        self.journal = journal
        self.settings = settings
        self.clock = clock or Clock()
        self.counters = counters or Counters()
        self.services = services = Services(
            journal,
            settings,
            self.clock,
            options,
            self.counters,
            RunNames(journal, settings),
            RunInboxes(journal),
            RemoteAnswers(journal),
            ToolAccess(journal, options.policy),
        )
        self.runs: dict[str, Run] = {}
        """The runs that are accepted and have no end yet, by id."""
        self.admission = Admission(settings, services.clock)
        self._process_inbox = ProcessInbox(journal, self.runs)
        self.lease = lease = Lease(
            journal,
            services.clock,
            settings.lease,
            self,
            hold_timeout=settings.hold_timeout,
            recovers=not services.options.is_worker,
        )
        self.drain = drain = RunsAtStop(services, self.runs)
        self.dispatch = Dispatch(services)
        self._recovery = Recovery(
            services, self, self.dispatch.mirror_again, lease=lease, drain=drain
        )
        self.queued_work = QueuedWork(services, self._recovery, self.dispatch, lease)
        self._tasks = BackgroundTasks("runs")
        self._loop_life: asyncio.Task[None] | None = None

    async def start(self, queues: Queues | None = None) -> None:
        """Make ready on the running loop; returns when dead processes' runs have been recovered.

        With `queues` calls for workers wait there; without, everything is executed here. When there
        is much to recover, the rest is done while the engine serves already.

        Raises:
            JournalError: The journal cannot be used.
        """
        self.dispatch.use_queues(queues)
        limiter = anyio.to_thread.current_default_thread_limiter()
        limiter.total_tokens = max(limiter.total_tokens, self.settings.threads)
        carry_runs()
        self._loop_life = asyncio.create_task(_last_as_long_as_the_loop())
        await self.lease.begin_lease()

    async def stop(self) -> None:
        """End every run as interrupted; returns when all ends are in the journal.

        A thread that does not come back has an end all the same: it is waited for at most
        `RUNS_STOP_TIMEOUT` seconds.
        """
        # Before any run is stopped: a request that comes now is refused, and no run can begin after
        # the loop below.
        self.services.lifecycle.move_to(Phase.OVER)
        for run in list(self.runs.values()):
            # A thread finds out when it calls Headway next: a cancelled task would wait for it.
            run.stop(SERVER_STOPPED)
            task = run.execution.task
            if task is not None and run.cancellation.unshielded.is_set():
                task.cancel()
        limit = time.monotonic() + RUNS_STOP_TIMEOUT
        while self.runs and self._tasks and time.monotonic() < limit:
            await self._tasks.wait_for_one(0.1)
        for run in list(self.runs.values()):
            # Its task never began, or a thread of it does not come back.
            self._end_run(run, end_in_queue(run))
        await self.dispatch.stop()
        await self.services.inboxes.stop()
        await self.services.remote_answers.stop()
        await self.services.names.stop()
        await self._process_inbox.close()
        # Last of all: while the lease is held, no other process takes the runs for lost, however
        # long their ends take to be stored.
        await self.lease.give_up_lease()
        if self._loop_life is not None:
            self._loop_life.cancel()

    @property
    def _is_loop_ending(self) -> bool:
        """True when all tasks of the loop are being cancelled, and not a run by its own code."""
        return self._loop_life is not None and self._loop_life.cancelling() > 0

    def start_run(self, request: Request) -> Run:
        """Accept a request and execute it in a task of its own, whoever reads the run.

        Raises:
            ProtocolError: The server has as many runs and as long a queue as it may (503).
        """
        run = self.accept_request(request)
        self.execute_accepted(run, request)
        return run

    def accept_request(self, request: Request) -> Run:
        """Make the run of a request, and write its first entry; nothing is executed yet.

        Either `execute_accepted` or `discard_accepted` has to follow.

        Raises:
            ProtocolError: The server has as many runs and as long a queue as it may (503).
        """
        lifecycle, info = self.services.lifecycle, self.services.info_of(request)
        if lifecycle.is_over or (lifecycle.is_draining and info.kind.is_endless):
            raise stopping_error()
        records = self.services.options.records
        if records is not None and info.kind.is_counted:
            records.check_writable()
        self._check_room(self._gates_of(info))
        if len(self.runs) >= self.settings.max_open:
            raise busy_error(f"{len(self.runs)} requests are open", "max_open")
        # From these checks to `count_run` nothing is awaited, so no other request can take the
        # place that was found free.
        caller, opener = self.admission.check_caller(request), self.admission.check_open(request)
        # The two runs of a call for a worker share this part of their ids: so they count as one
        # call of their caller (`count_unfinished`).
        if request.owns and request.follows:
            call = call_of(request.follows)
        else:
            call = request.call or new_call_id()
        run_id = self.lease.tag + call
        stream = run_stream(request.owner, run_id)
        run = self.make_run(stream, request, info)
        self.runs[run.id] = run
        self.admission.count_run(caller, opener, run)
        return run

    def discard_accepted(self, run: Run) -> None:
        """End a run that was accepted and is not to be executed."""
        if not run.ended:
            self._write_end(run, NEVER_EXECUTED)

    def make_run(
        self, stream: str, request: Request, info: RequestInfo, *, view: RunView | None = None
    ) -> Run:
        """Make a run of a request in `stream`; with `view` it continues where that says."""
        rate = info.options.rate if info.is_limited else None
        rate = self.settings.progress_rate if rate is None else rate
        beats = request.context.token is not None or view is not None
        run = Run(
            stream,
            request,
            info,
            services=self.services,
            rate=0 if request.owns else rate,  # what a worker emits is paced already
            heartbeat=self.settings.heartbeat if beats else None,
            view=view,
        )
        if self.services.options.records is not None:
            self.services.options.records.begin(run, request)
        return run

    def store_request(self, run: Run, request: Request) -> None:
        """Store what another process needs to go on with a run, where one may."""
        if run.checkpoints is None and run.request.may_restart:
            stored = stored_request(request, can_ask=request.owns)
            if request.owns:
                stored = structs.replace(stored, is_found=is_found(run))
            run.checkpoints = Checkpoints.begin(self.journal, run.stream, stored)

    def execute_accepted(self, run: Run, request: Request) -> None:
        """Execute an accepted run, in a task of its own, from the loop's next turn on.

        It begins earlier where somebody who is about to read it calls `begin_now`.
        """
        # Not earlier: a run that was only accepted may be discarded, and must not be restarted.
        self.store_request(run, request)
        gates = self._gates_of(run.request)
        run.hooks.give_up = partial(self._give_up, run)
        request.context.bind(run)
        self.runs[run.id] = run
        self.admission.entering += bool(gates)
        # `subscriptions/listen` and the like last as long as their reader.
        limit = (run.request.options.timeout or self.settings.timeout) if gates else None
        work = partial(self._execute_run, run, request, gates, limit)
        run.execution.begin_soon(partial(self._tasks.start_at_once, work, copy_context()))

    def take_retries(self, begin: Callable[[RetryRequested], Coroutine[Any, Any, None]]) -> None:
        """Call `begin` in a task for each run that an operator wants executed once more."""
        self._process_inbox.take_retry = lambda wanted: self._tasks.start(begin(wanted))

    # Called by the lease (`LeaseHolder`)

    async def open_lease(self, process: str) -> None:
        """Read the process's inbox, under the id of its new lease."""
        await self._process_inbox.open(process)

    def lose_lease(self) -> None:
        """Stop all runs: another process found this one dead, and they are its by now."""
        for run in [run for run in self.runs.values() if run.execution.goes_on]:
            self.drain.stop_or_release(run, TAKEN_OVER)

    async def recover_run(self, stream: str) -> bool:
        """Go on with the run of a dead process; False when the run has to end."""
        return await self._recovery.recover_run(stream)

    async def sweep_streams(self) -> None:
        """Close the keys, questions and checkpoints of runs that dead processes left."""
        await self.services.names.sweep()
        await self.services.remote_answers.sweep(self.lease)
        await sweep_ended(self.journal)

    async def check_worker_runs(self, streams: Sequence[str]) -> None:
        """Requeue or end the runs for workers that no process owns, where there are queues."""
        if self.dispatch.queues is not None:
            await self.queued_work.check_runs(streams)

    async def record_lost(self, stream: str, end: Event) -> None:
        """Record the end of a run that nobody executes any more, in the audit log."""
        if self.services.options.records is not None:
            await self.services.options.records.lose(self.journal, stream, end)

    def _gates_of(self, info: RequestInfo) -> Sequence[FairSemaphore]:
        """Return the semaphores that a request has to pass, the narrowest first; or none."""
        if not info.is_limited:
            return ()
        return self.admission.semaphores_of(info.target or "", info.options, info.principal)

    # Executing

    async def _execute_run(
        self, run: Run, request: Request, gates: Sequence[FairSemaphore], limit: float | None
    ) -> None:
        passed: list[FairSemaphore] = []
        self.admission.entering -= bool(gates)
        try:
            for gate in gates:
                if not gate.enter_at_once():
                    await self._wait_at_gate(gate, run)
                passed.append(gate)
            if run.stop_event is None:
                await self._call_handler(run, request, limit)
            else:
                self._end_run(run, run.stop_event)
        except asyncio.CancelledError:
            self._end_run(run, end_in_queue(run))
            if run.stop_event is None:
                raise
        finally:
            for gate in passed:
                gate.leave()

    async def _wait_at_gate(self, gate: FairSemaphore, run: Run) -> None:
        self.counters.limit_hit(gate.setting)
        run.start_heartbeat()
        self.admission.announce_positions_regularly()
        with anyio.CancelScope() as scope:
            run.execution.scope = scope
            if run.stop_event is not None:
                scope.cancel()
            await gate.enter(lambda ahead: run.output.announce_message(f"Queued, {ahead} ahead"))
        if scope.cancelled_caught:
            raise asyncio.CancelledError

    async def _call_handler(self, run: Run, request: Request, limit: float | None) -> None:
        """Call the handler and write how it ended. Whatever happens, an end is written."""
        # The `finally` below writes an end also when the loop itself is cancelled.
        token = current_run.set(run)
        working_runs.add(run)
        end: Event | None = None
        result: dict[str, Any] | None = None
        if limit is not None:
            run.execution.limit_time(limit, lambda: run.stop(end_of_time(run, limit)))
        try:
            run.events.append(Started())
            run.start_heartbeat()
            with RunScope(run):
                result = await request.execute(request.context)
                if run.request.kind.is_limited and (note := self.services.options.caller_note()):
                    result = add_note(result, note)
            end, result = end_of_result(run, result, most=self.services.options.max_result)
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
            run.execution.stop_timer()
            self._end_run(run, end or end_in_queue(run), result)

    def _give_up(self, run: Run) -> None:
        """End a stopped run whose code does not return: its readers need not wait for it."""
        if not run.ended:
            logger.warning(
                "run %s: %s was stopped but goes on; its result will be dropped",
                run.reference,
                run.request.name,
            )
            if run.execution.task is not None:
                self.admission.count_stuck(run.request.name, run.execution.task)
            self._end_run(run, end_in_queue(run))

    def _end_run(self, run: Run, event: Event, result: dict[str, Any] | None = None) -> None:
        """Write the terminal entry, unless there is one, and count the run."""
        # `_give_up` may have ended it already: code that goes on after its grace comes here late,
        # and its result is dropped.
        if not run.ended:
            try:
                count_end(self.counters, run, event, result)
                log_end(run, event, result)
                self._record_end(run, event, result)
            finally:
                # Whatever becomes of the line: without an end nobody would stop waiting.
                self._write_end(run, event, success=result is not None and is_success(result))

    def _record_end(self, run: Run, event: Event, result: dict[str, Any] | None) -> None:
        records = self.services.options.records
        if records is not None:
            is_waiting = run.request.owns and self.dispatch.is_waiting(run.request.follows or "")
            records.end(run, event, result, is_waiting=is_waiting)

    def _write_end(self, run: Run, event: Event, *, success: bool = False) -> None:
        try:
            run.write_end(event, success=success)
        except JournalError as error:
            # Another process has taken the run over, or the journal is gone: not ours to end.
            logger.warning("run %s: its end could not be written: %s", run.reference, error)
        finally:
            self.runs.pop(run.id, None)

    # Limits

    def _check_room(self, gates: Sequence[FairSemaphore]) -> None:
        if gates and self.services.lifecycle.is_draining:
            raise stopping_error()
        if gates and self.journal.is_behind:
            raise busy_error("its journal cannot be written", "keep.max_bytes")
        self.admission.check_room(gates)


async def _last_as_long_as_the_loop() -> None:
    await asyncio.get_running_loop().create_future()

"""The engine: starts runs, keeps them within limits, and sees that each one ends in the journal.

This module must not know HTTP, sessions or eras. A caller hands it what to execute and reads
the run's stream; when the caller goes away the run does not.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from msgspec import structs

from headway.background import BackgroundTasks
from headway.clock import Clock
from headway.counters import Counters
from headway.engine.failures import Kind, judge_failure
from headway.engine.idempotency import NEVER_EXECUTED, RunNames
from headway.engine.lifecycle import Lifecycle, Phase
from headway.engine.limits.admission import Admission, busy_error, stopping_error
from headway.engine.limits.semaphore import FairSemaphore
from headway.engine.recovery.checkpoints import Checkpoints
from headway.engine.recovery.drain import Drain
from headway.engine.recovery.lease import Lease
from headway.engine.recovery.ownership import sweep_ended
from headway.engine.recovery.recover import Recovery
from headway.engine.recovery.stored_request import is_found, stored_request
from headway.engine.remote.process_inbox import ProcessInbox
from headway.engine.remote.remote_answers import RemoteAnswers
from headway.engine.remote.run_inbox import RunInboxes, handed_over_event
from headway.engine.request import Request, ToolOptions
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
from headway.engine.services import NO_OPTIONS, EngineOptions, Services
from headway.engine.workers.dispatch import Dispatch
from headway.engine.workers.execute import QueuedWork
from headway.errors import JournalError
from headway.events import Event, HandedOver, Started
from headway.journal import Journal
from headway.protocol.methods import kind_of
from headway.queues import Queues
from headway.run_state import RunView
from headway.settings import Settings
from headway.streams import call_of, new_call_id, process_of, run_stream

logger = logging.getLogger(__name__)

RUNS_STOP_TIMEOUT = 10.0
"""Seconds that runs get to end by themselves when the engine stops."""


class Engine:
    """Executes the runs of one process, within its limits, and writes how each one ends.

    Args:
        journal: Opened before `start`, and closed after `stop`.
        settings: Of the server.
        clock: Of the server; tests have one of their own.
        options: What it has to know of the server whose requests it executes.
        counters: Counters that outlive the engine.
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
        self.journal = journal
        self.settings = settings
        self.clock = clock = clock or Clock()
        self.options = options or EngineOptions()
        self.counters = counters or Counters()
        self.lifecycle = Lifecycle()
        services = Services(journal, settings, clock, self.options, self.counters, self.lifecycle)
        self.services = services
        self.runs: dict[str, Run] = {}
        """The runs that are accepted and have no end yet, by id."""
        self.admission = Admission(settings, clock)
        self.idempotency = names = RunNames(journal, settings)
        self.inboxes = inboxes = RunInboxes(journal)
        self.remote_answers = RemoteAnswers(journal)
        self._process_inbox = ProcessInbox(journal, self.runs)
        self.lease = lease = Lease(
            journal,
            clock,
            settings.lease,
            self,
            hold_timeout=settings.hold_timeout,
            recovers=not self.options.is_worker,
        )
        self.drain = drain = Drain(services, self.runs)
        self.dispatch = Dispatch(services)
        self._recovery = Recovery(
            services, self, self.dispatch.mirror_again, lease=lease, inboxes=inboxes, drain=drain
        )
        self.queued_work = QueuedWork(
            services, self._recovery, self.dispatch, lease=lease, names=names, inboxes=inboxes
        )
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
        self.lifecycle.move_to(Phase.OVER)
        for run in list(self.runs.values()):
            # A thread finds out when it calls Headway next: a cancelled task would wait for it.
            run.stop(SERVER_STOPPED)
            if run.task is not None and run.cancellation.unshielded.is_set():
                run.task.cancel()
        limit = time.monotonic() + RUNS_STOP_TIMEOUT
        while self.runs and self._tasks and time.monotonic() < limit:
            await self._tasks.wait_for_one(0.1)
        for run in list(self.runs.values()):
            # Its task never began, or a thread of it does not come back.
            self._end_run(run, end_in_queue(run))
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
        """True when all tasks of the loop are being cancelled, and not a run by its own code."""
        return self._loop_life is not None and self._loop_life.cancelling() > 0

    @property
    def offers_handles(self) -> bool:
        """True when a call may be answered with a plain handle: author or operator said when."""
        return self.services.offers_handles

    @property
    def offers_tasks(self) -> bool:
        """True when a call may become a task, for a client that knows tasks."""
        return self.services.offers_tasks

    def handed_over(self, run: Run) -> HandedOver:
        """Return the event which says that a run has a handle, and for how long."""
        return handed_over_event(run, self.services)

    async def is_of_another(self, stream: str) -> bool:
        """Return whether another process, which is alive, accepted the run of a stream.

        Raises:
            JournalError: The journal cannot be read.
        """
        tag = process_of(stream)
        return tag != self.lease.tag and await self.lease.is_alive(tag)

    def options_of(self, tool: str | None) -> ToolOptions:
        """Return what the author set for a tool."""
        return self.services.options_of(tool)

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
        lifecycle, kind = self.lifecycle, kind_of(request.method)
        if lifecycle.is_over or (lifecycle.is_draining and kind.is_endless):
            raise stopping_error()
        self._check_room(self._gates_of(request))
        if len(self.runs) >= self.settings.max_open:
            raise busy_error(f"{len(self.runs)} requests are open", "max_open")
        caller, opener = self.admission.check_caller(request), self.admission.check_open(request)
        call = call_of(request.follows) if request.owns and request.follows else new_call_id()
        run_id = self.lease.tag + call
        stream = run_stream(request.owner, run_id)
        run = self.make_run(stream, request, recorded=kind_of(request.method).is_recorded)
        self.runs[run.id] = run
        self.admission.count_run(caller, opener, run)
        return run

    def discard_accepted(self, run: Run) -> None:
        """End a run that was accepted and is not to be executed."""
        if not run.ended:
            self._write_end(run, NEVER_EXECUTED)

    def _options_for(self, request: Request) -> ToolOptions:
        """Return the limits of a request; a mirror, which executes nothing, has none."""
        is_executed = kind_of(request.method).is_limited and request.follows is None
        return self.options_of(request.target) if is_executed else NO_OPTIONS

    def _may_restart(self, request: Request) -> bool:
        """Return whether another process may go on with it: a mirror does nothing twice."""
        is_mirror = request.follows is not None
        return kind_of(request.method).is_restartable and (
            is_mirror or self.options_of(request.target).restart
        )

    def make_run(
        self, stream: str, request: Request, *, recorded: bool = True, view: RunView | None = None
    ) -> Run:
        """Make a run of a request in `stream`; with `view` it continues where that says."""
        options = self._options_for(request)
        rate = self.settings.progress_rate if options.rate is None else options.rate
        beats = request.context.token is not None or view is not None
        run = Run(
            stream,
            request,
            engine=self,
            rate=0 if request.owns else rate,  # what a worker emits is paced already
            heartbeat=self.settings.heartbeat if beats else None,
            recorded=recorded,
            view=view,
        )
        run.hooks.detached = self.options_of(request.target).detached
        return run

    def store_request(self, run: Run, request: Request) -> None:
        """Store what another process needs to go on with a run, where one may."""
        if run.checkpoints is None and self._may_restart(request):
            stored = stored_request(request, can_ask=request.owns)
            if request.owns:
                stored = structs.replace(stored, is_found=is_found(run))
            run.checkpoints = Checkpoints.begin(self.journal, run.stream, stored)

    def execute_accepted(self, run: Run, request: Request) -> None:
        """Execute an accepted run, in a task of its own."""
        options = self._options_for(request)
        # Not earlier: a run that was only accepted may be discarded, and must not be restarted.
        self.store_request(run, request)
        gates = self._gates_of(request)
        run.hooks.give_up = partial(self._give_up, run)
        request.context.bind(run)
        self.runs[run.id] = run
        self.admission.entering += bool(gates)
        # `subscriptions/listen` and the like last as long as their reader.
        limit = (options.timeout or self.settings.timeout) if gates else None
        run.task = self._tasks.start(self._execute_run(run, request, gates, limit))

    # Called by the lease (`LeaseHolder`)

    async def open_lease(self, process: str) -> None:
        """Read the process's inbox, under the id of its new lease."""
        await self._process_inbox.open(process)

    def lose_lease(self) -> None:
        """Stop all runs: another process found this one dead, and they are its by now."""
        for run in [run for run in self.runs.values() if run.task is not None]:
            self.drain.stop_or_release(run, TAKEN_OVER)

    async def recover_run(self, stream: str) -> bool:
        """Go on with the run of a dead process; False when the run has to end."""
        return await self._recovery.recover_run(stream)

    async def sweep_streams(self) -> None:
        """Close the keys, questions and checkpoints of runs that dead processes left."""
        await self.idempotency.sweep()
        await self.remote_answers.sweep(self.lease)
        await sweep_ended(self.journal)

    async def check_worker_runs(self, streams: Sequence[str]) -> None:
        """Requeue or end the runs for workers that no process owns, where there are queues."""
        if self.dispatch.queues is not None:
            await self.queued_work.check_runs(streams)

    def _gates_of(self, request: Request) -> Sequence[FairSemaphore]:
        """Return the semaphores that a request has to pass, the narrowest first; or none."""
        if not kind_of(request.method).is_limited or request.follows is not None:
            return ()
        return self.admission.semaphores_of(request.target or "", self.options_of(request.target))

    # Executing

    async def _execute_run(
        self, run: Run, request: Request, gates: Sequence[FairSemaphore], limit: float | None
    ) -> None:
        passed: list[FairSemaphore] = []
        self.admission.entering -= bool(gates)
        try:
            for gate in gates:
                await self._pass_gate(gate, run)
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

    async def _pass_gate(self, gate: FairSemaphore, run: Run) -> None:
        if gate.is_open:
            await gate.enter(_announce_nothing)
            return
        self.counters.limit_hit(gate.setting)
        run.output.heartbeat.start()
        self.admission.announce_positions_regularly()
        with anyio.CancelScope() as run.scope:
            if run.stop_event is not None:
                run.scope.cancel()
            await gate.enter(lambda ahead: run.output.announce_message(f"Queued, {ahead} ahead"))
        if run.scope.cancelled_caught:
            raise asyncio.CancelledError

    async def _call_handler(self, run: Run, request: Request, limit: float | None) -> None:
        """Call the handler and write how it ended. Whatever happens, an end is written."""
        token = current_run.set(run)
        working_runs.add(run)
        end, result = end_in_queue(run), None
        timer = None
        if limit is not None:
            timer = self.clock.call_later(limit, partial(run.stop, end_of_time(run, limit)))
        try:
            run.events.append(Started())
            run.output.heartbeat.start()
            with run_stoppable(run):
                result = await request.execute(request.context)
            end, result = end_of_result(run, result, most=self.options.max_result)
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
            self._end_run(run, end, result)

    def _give_up(self, run: Run) -> None:
        """End a stopped run whose code does not return: its readers need not wait for it."""
        if not run.ended:
            logger.warning(
                "run %s: %s was stopped but goes on; its result will be dropped",
                run.reference,
                run.request.name,
            )
            if run.task is not None:
                self.admission.count_stuck(run.request.name, run.task)
            self._end_run(run, end_in_queue(run))

    def _end_run(self, run: Run, event: Event, result: dict[str, Any] | None = None) -> None:
        """Write the terminal entry, unless there is one, and count the run."""
        if not run.ended:
            count_end(self.counters, run, event, result)
            self._write_end(run, event, success=result is not None and is_success(result))

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
        if gates and self.lifecycle.is_draining:
            raise stopping_error()
        if gates and self.journal.is_behind:
            raise busy_error("its journal cannot be written", "keep.max_bytes")
        self.admission.check_room(gates)


def _announce_nothing(_ahead: int) -> None:
    pass


async def _last_as_long_as_the_loop() -> None:
    await asyncio.get_running_loop().create_future()

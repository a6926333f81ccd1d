"""Submitting: the one way in for requests, to this process or to a worker, with a key or without.

    submit ─┬─ no key, executed here ── Engine.start_run
            ├─ no key, for a worker ─── accept ── start
            └─ with a key ───────────── accept ── claim the key ─┬─ start     it was ours
                                                                 └─ discard   it names another
                                                                    run: mirror that one

A call that is for a worker is two runs (`workers/dispatch.py`). Everything that is accepted is
either started or discarded, whatever fails in between.
"""

from collections.abc import Callable
from dataclasses import dataclass

from msgspec import structs

from headway.engine.engine import Engine
from headway.engine.idempotency import NamedRun
from headway.engine.limits.admission import stopping_error
from headway.engine.recovery.restart_state import load_restart
from headway.engine.recovery.stored_request import request_from
from headway.engine.remote.run_inbox import handed_over_event
from headway.engine.request import Request
from headway.engine.run.run import Run
from headway.errors import JournalError, ProtocolError, journal_away
from headway.events import Claimed, RetryRequested
from headway.log_lines import quiet_logger
from headway.protocol.idempotency_key import CallKey, other_call, result_gone
from headway.stream_names import key_stream, reference_of

logger = quiet_logger(__name__)


async def check_limits(
    engine: Engine, request: Request, key: CallKey | None, rated_as: Callable[[], str] | None
) -> None:
    """Check that the caller of a request may have one more run now, counted over all processes.

    `rated_as` returns the name that its rates are counted for; None: they are not counted. A call
    that repeats one with its key is not counted again, and `submit` looks at the number of its
    caller's calls after the key. Call this before `submit`, and await nothing in between: another
    request may be accepted then.

    Raises:
        ProtocolError: The caller has as many as it may (503), makes calls too often (429), or its
            token lacks a scope of the tool (403).
    """
    services, admission = engine.services, engine.admission
    if rated_as is not None:
        author = services.options_of(request.target).calls_each
        rates = admission.rates_of(request, author, services.access.is_alias)
        if rates:
            services.access.check_call(request.method, request.target, request.scopes)
            if key is None or not await _is_known(engine, key_stream(request.principal, key.name)):
                await admission.check_rates(rates, rated_as(), services.journal)
    if key is None and admission.check_caller(request):
        await admission.check_everywhere(request, services.journal)


async def _is_known(engine: Engine, name: str) -> bool:
    try:
        return await engine.services.names.find_run(name) is not None
    except JournalError:  # `submit` will say so
        return True


async def submit(engine: Engine, request: Request, key: CallKey | None = None) -> Run:
    """Start the run of a request, here or in a worker, and return the run.

    A call with a key is executed once: when the key names a run, the new run mirrors that one. The
    key is in the journal before anything is executed, so a crash leaves an interrupted run, and
    never one that the key does not find. Nothing is awaited before a request without a key that is
    executed here has its run.

    Cancellation: a call that was accepted and not started is discarded.

    Raises:
        ProtocolError: The caller's token lacks a scope of the tool (403); the server has as much to
            do as it may, is stopping, or cannot write the journal (503); or the key was used for
            another call.
    """
    engine.services.access.check_call(request.method, request.target, request.scopes)
    if key is not None:
        return await _submit_once(engine, request, key)
    if engine.dispatch.is_for_workers(request):
        return _start(engine, await _accept(engine, request))
    return engine.start_run(request)


async def _submit_once(engine: Engine, request: Request, key: CallKey) -> Run:
    # The order is what makes a call execute once: the run is accepted and stored, then it claims
    # the key, and only the run that the key names is executed. A crash after the claim leaves a key
    # whose run ends as interrupted. A crash before it leaves a run that nothing names and that
    # never began.
    name = key_stream(request.principal, key.name)
    try:
        named = await engine.services.names.find_run(name)
        if named is None:
            await engine.services.names.check_room(request.principal)
        await engine.admission.check_everywhere(request, engine.services.journal)
        if named is None:
            # Another request with this key may have claimed it since the look-up above:
            # `_claim_key` returns the winner.
            call = await _accept(engine, request, name)
            named = await _claim_key(engine, call, name, key)
            if named.stream == call.stream:
                run = _start(engine, call)
                if not call.request.owns:
                    engine.services.names.release_with(run, name)
                return run
            _discard(engine, call)
        if not named.is_gone:
            access, tool = engine.services.access, request.target or ""
            await access.check_repeated(named.stream, tool, request.scopes)
    except JournalError as error:
        logger.warning("a call with a key was refused: %s", error)
        raise journal_away() from None
    return _mirror_named(engine, request, key, named)


def _mirror_named(engine: Engine, request: Request, key: CallKey, named: NamedRun) -> Run:
    """Start a run that mirrors the one which the key of its call names.

    Raises:
        ProtocolError: The key was used for another call, or the run's result is gone; or there is
            no room (503).
    """
    if named.fingerprint not in ("", key.fingerprint):
        raise other_call()
    if named.is_gone:
        raise result_gone()
    execute = engine.dispatch.mirror_again(named.stream, owns=False)
    run = engine.start_run(structs.replace(request, execute=execute, follows=named.stream))
    engine.counters.repeated += 1
    return run


async def retry_run(engine: Engine, wanted: RetryRequested) -> None:
    """Execute the request of a run once more, in a new run of the same owner.

    Nobody waits for it as for a call: it goes on in the next process when this one stops, and is
    found by its id. Where it cannot be begun, the log says why.
    """
    reference, executor_for = reference_of(wanted.stream), engine.services.options.executor_for
    try:
        known = await load_restart(engine.journal, wanted.stream)
        if known is None or executor_for is None:
            logger.warning("%s is not executed again: its arguments are not kept", reference)
            return
        stored = structs.replace(known[0].request, follows="", owns=False)
        request = request_from(stored, executor_for(stored))
        call = await _accept(engine, structs.replace(request, call=wanted.call))
        call.run.hooks.has_handle = True
        run = _start(engine, call)
    except (JournalError, ProtocolError) as error:
        logger.warning("%s is not executed again: %s", reference, error)
    else:
        logger.info("run %s: %s is executed again, as an operator wants", run.reference, reference)


@dataclass(frozen=True, slots=True)
class _AcceptedCall:
    """A call that was accepted and is not executed yet."""

    run: Run
    """The run of the request itself."""
    request: Request
    stream: str
    """Of the run that does the work: the request's own, or the one that a worker will execute."""


async def _accept(engine: Engine, request: Request, key: str = "") -> _AcceptedCall:
    """Make the run of a request, and the worker's run where the call is for a worker.

    Raises:
        ProtocolError: There is no room, or the journal cannot be written (503).
    """
    dispatch = engine.dispatch
    if not dispatch.is_for_workers(request):
        run = engine.accept_request(request)
        return _AcceptedCall(run, request, run.stream)
    dispatch.check_room()
    stream = dispatch.new_worker_stream(request)
    mirror = dispatch.mirror_of(request, stream)
    run = engine.accept_request(mirror)
    call = _AcceptedCall(run, mirror, stream)
    run.hooks.has_handle = key != ""
    try:
        # From now on the mirror goes on with the worker's run in another process if this one dies.
        engine.store_request(run, mirror)
        await dispatch.store_call(request, run, stream, key)
    except JournalError as error:
        _discard(engine, call)
        logger.warning("a call for a worker was refused: %s", error)
        raise journal_away() from None
    except BaseException:
        _discard(engine, call)
        raise
    return call


async def _claim_key(engine: Engine, call: _AcceptedCall, name: str, key: CallKey) -> NamedRun:
    """Make the accepted run durable, claim the key for it, and return the run that the key names.

    Many may claim one key in the same moment: the first one in the journal has it.
    """
    call.run.hooks.has_handle = True
    try:
        if not call.request.owns:
            handed = handed_over_event(call.run, engine.services)
            await engine.services.inboxes.open(call.run, handed)
        return await engine.services.names.claim_name(name, Claimed(call.stream, key.fingerprint))
    except BaseException:
        _discard(engine, call)
        engine.services.names.withdraw_soon(name, call.stream)
        raise


def _start(engine: Engine, call: _AcceptedCall) -> Run:
    """Execute an accepted call, and return the request's own run.

    Raises:
        ProtocolError: The process has stopped meanwhile, and the call is discarded (503).
    """
    if engine.services.lifecycle.is_over:
        _discard(engine, call)
        raise stopping_error()
    if call.request.owns:
        engine.dispatch.start_call(call.run, call.stream)
    engine.execute_accepted(call.run, call.request)
    return call.run


def _discard(engine: Engine, call: _AcceptedCall) -> None:
    """End a call that was accepted and is not to be executed."""
    engine.discard_accepted(call.run)
    if call.request.owns:
        engine.dispatch.withdraw_later(call.stream)

"""Once: a call with an idempotency key is executed one time, however often it is sent."""

import logging

from msgspec import structs

from headway.engine.engine import Engine
from headway.engine.idempotency import NamedRun, key_stream
from headway.engine.request import Request
from headway.engine.run.run import Run
from headway.engine.workers.dispatch import AcceptedCall
from headway.errors import JournalError, journal_away
from headway.events import Claimed
from headway.protocol.idempotency_key import CallKey, other_call, result_gone

logger = logging.getLogger(__name__)


async def check_caller_limit(engine: Engine, request: Request, key: CallKey | None) -> None:
    """See that the caller of a request may have one more run, of those of all processes.

    With a key it is only looked at behind the key, by `launch_once`.

    Raises:
        ProtocolError: It has as many as it may (503).
    """
    if key is None:
        await engine.admission.check_everywhere(request, engine.journal)


async def submit(engine: Engine, request: Request, key: CallKey | None) -> Run:
    """Start the run of a request, here or in a worker; with a key it is executed once.

    Behind `admit`, with nothing waited for in between.

    Raises:
        ProtocolError: As `launch_once`; without a key only for what a worker is to do.
    """
    if key is not None:
        return await submit_once(engine, request, key)
    if engine.dispatch.is_for_workers(request):
        return engine.dispatch.begin_call(await engine.dispatch.accept_call(request))
    return engine.start_run(request)


async def submit_once(engine: Engine, request: Request, key: CallKey) -> Run:
    """Start the run of a request with a key; where the key has a run, start one that follows it.

    The key is in the journal before anything is executed: a crash after that is a run that was
    interrupted, never one that nobody knows of.

    Raises:
        ProtocolError: The key was used for another call, the server is busy (503), or the
            journal cannot be written (503).
    """
    name = key_stream(request.principal, key.name)
    dispatch = engine.dispatch
    try:
        claimed = await engine.idempotency.find_run(name)
        if claimed is None:
            await engine.idempotency.check_room(request.principal)
        await engine.admission.check_everywhere(request, engine.journal)
        if claimed is None:
            begun = await dispatch.accept_call(request, name)
            claimed = await _claim(engine, begun, name, key)
            if claimed.stream == begun.stream:
                run = dispatch.begin_call(begun)
                if not begun.request.owns:
                    engine.idempotency.release_with(run, name)
                return run
            dispatch.discard_call(begun)
    except JournalError as error:
        logger.warning("a call with a key was refused: %s", error)
        raise journal_away() from None
    if claimed.fingerprint not in ("", key.fingerprint):
        raise other_call()
    if claimed.is_gone:
        raise result_gone()
    stream = claimed.stream
    again = dispatch.mirror_again(stream, owns=False)
    run = engine.start_run(structs.replace(request, execute=again, follows=stream))
    engine.tally.repeated += 1
    return run


async def _claim(engine: Engine, begun: AcceptedCall, name: str, key: CallKey) -> NamedRun:
    """Make the accepted run durable and have the key name it; what it names is told."""
    begun.run.hooks.has_handle = True
    try:
        if not begun.request.owns:
            await engine.inboxes.open(begun.run, engine.handed_over(begun.run))
        return await engine.idempotency.claim_name(name, Claimed(begun.stream, key.fingerprint))
    except BaseException:
        engine.dispatch.discard_call(begun)
        engine.idempotency.withdraw_soon(name, begun.stream)
        raise

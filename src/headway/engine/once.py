"""Once: a call with an idempotency key is executed one time, however often it is sent."""

import logging
from typing import Any

from headway.engine.context import RunContext
from headway.engine.engine import Engine
from headway.engine.following import Following
from headway.engine.keys import key_stream
from headway.engine.request import Request
from headway.engine.run import Run
from headway.errors import JournalError, journal_away
from headway.events import Claimed
from headway.protocol.keys import CallKey, other_call

logger = logging.getLogger(__name__)


async def launch_once(engine: Engine, request: Request, key: CallKey) -> Run:
    """Start the run of a request with a key; where the key has a run, start one that follows it.

    The key is in the journal before anything is executed: a crash after that is a run that was
    interrupted, never one that nobody knows of.

    Raises:
        ProtocolError: The key was used for another call, the server is busy (503), or the
            journal cannot be written (503).
    """
    name = key_stream(request.principal, key.name)
    try:
        claimed = await engine.keys.find(name)
        if claimed is None:
            run = engine.accept(request)
            claimed = await _claim(engine, run, name, key)
            if claimed.stream == run.stream:
                engine.keys.release_with(run, name)
                engine.begin(run, request)
                return run
            engine.discard(run)
    except JournalError as error:
        logger.warning("a call with a key was refused: %s", error)
        raise journal_away() from None
    if claimed.fingerprint != key.fingerprint:
        raise other_call()
    return engine.launch(follower(request, claimed.stream))


def follower(request: Request, stream: str) -> Request:
    """The request, asking for what the run in `stream` says."""

    async def execute(context: RunContext) -> dict[str, Any]:
        assert context.run is not None
        ask = context.send_raw_request if context.can_send_request else None
        return await Following(context.run, stream, ask=ask, means_the_work=True).result()

    return Request(
        request.method,
        request.target,
        request.owner,
        request.context,
        execute,
        request.version,
        request.principal,
        stream,
    )


async def _claim(engine: Engine, run: Run, name: str, key: CallKey) -> Claimed:
    """Make the accepted run durable and have the key name it; what it names is told."""
    run.has_handle = True
    try:
        await engine.inboxes.open(run, engine.handed_over(run))
        return await engine.keys.claim(name, Claimed(run.stream, key.fingerprint))
    except BaseException:
        engine.discard(run)
        raise

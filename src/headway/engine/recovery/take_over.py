"""Taking over: another process begins a run, or begins it anew from its checkpoints."""

import logging
from dataclasses import dataclass

from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from headway.auth import known_of_caller
from headway.clock import Clock
from headway.engine.recovery.checkpoints import Checkpoints, RestartState
from headway.engine.recovery.retry import retry_until_available
from headway.engine.request import Execute, Request
from headway.engine.run.context import RunContext
from headway.engine.run.run import Run
from headway.errors import JournalError, JournalUnavailable
from headway.events import (
    Event,
    Forgotten,
    RequestStored,
    Restarted,
    TakenByWorker,
    decode_json,
    encode_json,
)
from headway.journal import Journal
from headway.run_state import RunView, parts_of, view_of
from headway.streams import CHECKPOINT_STREAMS, checkpoint_stream, run_beside

logger = logging.getLogger(__name__)


def stored_request(request: Request, *, can_ask: bool = False) -> RequestStored:
    """All that it takes to begin a run anew, or in a worker.

    With `can_ask` its client may be asked there what it may be asked here.
    """
    params = encode_json(request.context.body.get("params"))
    return RequestStored(
        request.method,
        request.target,
        request.owner,
        request.version,
        params,
        request.principal,
        request.follows or "",
        owns=request.owns,
        client=request.client,
        access=known_of_caller(),
        can_ask=can_ask and request.context.transport.can_send_request,
    )


def request_from(begun: RequestStored, execute: Execute) -> Request:
    """The request of a run that another process accepted."""
    transport = TransportContext(kind="restart", can_send_request=begun.can_ask)
    return Request(
        begun.method,
        begun.target,
        begun.owner,
        RunContext(0, transport, ServerMessageMetadata(), _token_of(begun), {}),
        execute,
        begun.version,
        begun.principal,
        begun.follows or None,
        begun.owns,
    )


def _token_of(begun: RequestStored) -> str | int | None:
    """The progress token of the request, for what its handler says with it."""
    match decode_json(begun.params):
        case {"_meta": {"progressToken": str() | int() as token}}:
            return token
        case _:
            return None


def is_found(run: Run) -> bool:
    """Whether its client can come back for a run without the connection it asked on."""
    return run.has_handle or run.detached or run.version not in MODERN_PROTOCOL_VERSIONS


@dataclass(frozen=True, slots=True)
class TakenOver:
    """A run that is this process's now."""

    stream: str
    checkpoints: Checkpoints
    view: RunView
    """Where it stood."""


async def take_over(
    journal: Journal, process: str, stream: str, memory: RestartState, seq: int, *, clock: Clock
) -> TakenOver | None:
    """Make a run this process's; None when another one was quicker, or it has its end.

    One that waits for a worker is begun, any other one begun anew. Whoever is the first to append
    to the checkpoints has it: from then on they, and a moment later the run, refuse what the
    process before writes.

    Raises:
        JournalUnavailable: The journal cannot be used; nothing was done.
    """
    is_first = not memory.owner and not memory.restarts and not memory.returned
    anew = Restarted(process, memory.attempt + 1, memory.at)
    beside = checkpoint_stream(stream)
    mine: Event = TakenByWorker(process) if memory.begun.queue and is_first else anew
    try:
        head = await journal.attach_stream(beside)
        if head.last != seq or head.ended:
            return None
        seq = journal.append_nowait(beside, mine, after=seq)
        await retry_until_available(clock, lambda: journal.wait_until_stored(beside))
        if isinstance(mine, Restarted):
            await retry_until_available(clock, lambda: journal.append_shared(stream, anew))
        await retry_until_available(clock, lambda: journal.attach_stream(stream))
        entries = await retry_until_available(clock, lambda: journal.read_all_kept(stream))
    except JournalUnavailable:
        raise
    except JournalError as error:
        logger.debug("%s is another process's: %s", stream, error)
        return None
    memory.apply_entry(mine)
    parts = parts_of(entries)
    return TakenOver(stream, Checkpoints(journal, beside, memory, seq, parts), view_of(entries))


async def sweep_checkpoints(journal: Journal) -> None:
    """Forget the checkpoints of runs that have ended without their process.

    Raises:
        JournalError: The journal cannot be read.
    """
    for beside in await journal.streams(CHECKPOINT_STREAMS, unfinished=True):
        try:
            head = await journal.head(run_beside(beside))
            if head is None or head.ended:
                await journal.append_shared(beside, Forgotten())
        except JournalError as error:
            logger.debug("%s is not let go of: %s", beside, error)

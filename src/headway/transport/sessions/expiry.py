"""The end of sessions that nobody uses, and the refusals of sessions that there cannot be."""

from collections.abc import Awaitable, Callable, Container
from contextlib import suppress
from typing import TYPE_CHECKING

from headway.engine import BUSY_CODE
from headway.errors import (
    Conflict,
    EntriesTrimmed,
    JournalError,
    ProtocolError,
    StreamDamaged,
    StreamEnded,
    StreamNotFound,
)
from headway.events import SessionClosed
from headway.journal import Journal
from headway.log_lines import quiet_logger
from headway.stream_names import SESSION_STREAMS

if TYPE_CHECKING:
    from headway.transport.sessions.session import Session

logger = quiet_logger(__name__)


async def close_if_unused(
    session: "Session",
    reason: str,
    read_on: Callable[["Session"], Awaitable[None]],
    known: Container[str],
) -> None:
    """Close a session that this process has forgotten, unless another process has it.

    It is not closed either when its client has come back meanwhile: its id is `known` again then.
    """
    with suppress(JournalError):  # then it is closed when it is found abandoned
        await read_on(session)
        if session.facts.is_open and not session.facts.is_elsewhere and session.id not in known:
            await session.sessions.journal.append_shared(session.stream, SessionClosed(reason))


async def close_abandoned(journal: Journal, limit: float, known: Container[str]) -> None:
    """End the unknown sessions without an entry since `limit`, in seconds since 1970."""
    try:
        for stream in await journal.streams(SESSION_STREAMS, unfinished=True):
            if stream not in known:
                # A session that cannot be read is no reason to stop looking at the others.
                with suppress(StreamDamaged, EntriesTrimmed):
                    await _close_if_abandoned(journal, stream, limit)
    except JournalError as error:
        logger.warning("idle sessions were not looked for: %s", error)


async def _close_if_abandoned(journal: Journal, stream: str, limit: float) -> None:
    head = await journal.head(stream)
    if head is None or head.ended:
        return
    last = await journal.read(stream, after=head.last - 1)
    if last and last[-1].time < limit:
        # Refused where another process was quicker: with an end, or with news.
        with suppress(Conflict, StreamEnded, StreamNotFound):
            await journal.append(stream, [SessionClosed("idle")], after=head.last)


NO_SESSION = -32001
"""The code of the official TypeScript server: some clients open a new session only where they find
it, or the words "Session not found", beside the status."""


def no_session() -> ProtocolError:
    """Return the one error for an unknown, an expired and a foreign session (404)."""
    return ProtocolError(
        NO_SESSION,
        "Session not found: it has ended or expired; send initialize to open a new one",
        status=404,
    )


def too_many(what: str, limit: str) -> ProtocolError:
    """Return the refusal of a session, or of something in one, for want of room (503)."""
    return ProtocolError(
        BUSY_CODE,
        f"{what} ({limit}); close one with DELETE, or try again later",
        status=503,
        retry_after=10,
        limit=limit,
    )

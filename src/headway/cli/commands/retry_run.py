"""`headway retry`: executing the request of a run once more, on a server that is running."""

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

from headway.cli.exit_codes import Refused, Unreachable
from headway.cli.journal_access.find_run import RunId, find_run
from headway.cli.journal_access.user_journals import JournalUrl, opened_journal
from headway.stream_names import reference_of

if TYPE_CHECKING:
    from headway.journal import Journal

BEGIN_TIMEOUT = 10.0
"""Seconds that a server gets to begin the new run."""

POLL_INTERVAL = 0.05


def retry(run: RunId, journal: JournalUrl = None) -> None:
    """Execute an ended run's call once more, for the same caller, with the same arguments.

    Only calls whose arguments the journal has can be: those of tools that may restart, and those
    for workers. A server with this journal has to be running.
    """
    reference = asyncio.run(_retry_run(journal, run))
    print(f"{reference}: begun; headway watch {reference}")


async def _retry_run(url: str | None, wanted: str) -> str:
    found = await find_run(url, wanted)
    async with opened_journal(found.url) as journal:
        return reference_of(await retry_ended(journal, found.stream))


async def retry_ended(journal: "Journal", stream: str) -> str:
    """Have a run executed once more; returns the stream of the new run, which has begun.

    Raises:
        Refused: It has not ended, or its arguments are not kept.
        Unreachable: No server does it.
    """
    from headway.engine import send_retry

    await _check_retriable(journal, stream)
    again = await send_retry(journal, stream)
    if again is None:
        raise Unreachable("no server with this journal is running")
    if not await _has_begun(journal, again):
        text = "a server was asked, and has not begun the run yet; its log may say why"
        raise Unreachable(text)
    return again


async def _check_retriable(journal: "Journal", stream: str) -> None:
    """Check that a run has ended, and that its request is kept.

    Raises:
        Refused: It is not so.
    """
    from headway.engine.recovery.restart_state import load_restart

    reference, head = reference_of(stream), await journal.head(stream)
    if head is not None and not head.ended:
        raise Refused(f"run {reference} has not ended; see headway watch {reference}")
    if await load_restart(journal, stream) is None:
        kept = "those of tools with restart=True and of tools for workers, for as long as keep.ttl"
        raise Refused(f"the arguments of run {reference} are not in the journal, which has {kept}")


async def _has_begun(journal: "Journal", stream: str) -> bool:
    limit = monotonic() + BEGIN_TIMEOUT
    while await journal.head(stream) is None:
        if monotonic() > limit:
            return False
        await asyncio.sleep(POLL_INTERVAL)
    return True

"""`headway cancel`: stopping a run through its journal, whichever process executes it."""

import asyncio
from typing import Annotated

import typer

from headway.cli.journal_access.find_run import RunId, find_run
from headway.cli.journal_access.user_journals import JournalUrl, opened_journal

Reason = Annotated[str, typer.Option(help="What the client is told.")]


def cancel(
    run: RunId, journal: JournalUrl = None, reason: Reason = "cancelled by the operator"
) -> None:
    """Stop a run, whichever process executes it; its client is told."""
    asyncio.run(_cancel_run(journal, run, reason))
    print(f"{run}: asked to stop")


async def _cancel_run(url: str | None, wanted: str, reason: str) -> None:
    from headway.engine import send_control
    from headway.events import CancelRequested

    found = await find_run(url, wanted, unfinished=True)
    async with opened_journal(found.url) as journal:
        await send_control(journal, found.stream, CancelRequested("operator", reason))

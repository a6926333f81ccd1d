"""`headway dashboard`: what runs and what became of it, in a browser on this machine."""

import asyncio
import webbrowser
from typing import Annotated

import typer

from headway.cli.exit_codes import report_line
from headway.cli.journal_access.user_journals import JournalUrl, OpenJournals, journal_urls

HOST = "127.0.0.1"


def dashboard(
    journal: JournalUrl = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of 127.0.0.1; 0 takes a free one.")
    ] = 0,
    browser: Annotated[
        bool, typer.Option("--browser", help="Open the page in the browser of this machine.")
    ] = False,
) -> None:
    """Show calls in a browser: what runs, what failed and why; stop them and do them again.

    The address that is printed has a key, which is good until Ctrl+C: who knows it sees the calls
    of all callers.
    """
    journal_urls(journal)
    asyncio.run(_serve_pages(journal, port, opens_browser=browser))


async def _serve_pages(url: str | None, port: int, *, opens_browser: bool) -> None:
    import uvicorn

    from headway.cli.dashboard.dashboard_app import Dashboard
    from headway.cli.server.listener import listening

    async with OpenJournals(url) as journals:
        with listening(HOST, port) as listener:
            pages = Dashboard(journals, listener.port)
            config = uvicorn.Config(
                pages.app,
                log_level="warning",
                access_log=False,
                server_header=False,
                lifespan="off",
            )
            report_line(f"calls are shown at {pages.address} (Ctrl+C to stop)")
            if opens_browser:
                webbrowser.open(pages.address)
            await uvicorn.Server(config).serve(sockets=listener.sockets)

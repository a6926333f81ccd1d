"""The dashboard as an ASGI app: whoever knows its key sees all runs, and may stop and repeat them.

The key comes with the address that the command prints, and goes into a cookie at once. Other users
of the machine, and pages of other sites in the same browser, have neither.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from hmac import compare_digest
from time import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from headway.cli.commands.list_runs import newest_in_all
from headway.cli.commands.retry_run import retry_ended
from headway.cli.commands.show_run import facts_of, text_of_result
from headway.cli.dashboard.dashboard_pages import (
    PART_HEADER,
    POLICY,
    RunPage,
    render_error,
    render_list,
    render_page,
    render_run,
)
from headway.cli.display.call_display import PART, log_line
from headway.cli.exit_codes import Refused
from headway.cli.journal_access.find_run import FoundRun
from headway.cli.journal_access.read_runs import RunFilter
from headway.cli.journal_access.run_table import time_text
from headway.cli.journal_access.user_journals import OpenJournals, opened_journal
from headway.cli.journal_access.whole_run import WholeRun, read_whole_run
from headway.engine import send_control
from headway.errors import HeadwayError
from headway.events import CancelRequested
from headway.stream_names import RUN_STREAMS, run_id_of

if TYPE_CHECKING:
    from headway.journal import Journal

TITLE: Final = "Headway: calls"

REASON: Final = "cancelled by the operator"

_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Dashboard:
    """The runs of some journals, as pages.

    Args:
        journals: Open for as long as the pages are served.
        port: The port of 127.0.0.1 that they are served at: no other `Host` is answered.
    """

    def __init__(self, journals: OpenJournals, port: int) -> None:
        self.key = secrets.token_urlsafe(24)
        self._journals = journals
        self._looking = asyncio.Lock()
        """Held while journals are looked into: they are opened once, and closed when they go."""
        self._port = port
        self._cookie = f"headway-dashboard-{port}"
        self.app = Starlette(
            routes=[
                Route("/", self._checked(self._show_list), methods=["GET"]),
                Route("/runs/{run}", self._checked(self._show_run), methods=["GET"]),
                Route("/runs/{run}/cancel", self._checked(self._cancel), methods=["POST"]),
                Route("/runs/{run}/retry", self._checked(self._retry), methods=["POST"]),
            ]
        )

    @property
    def address(self) -> str:
        """The address to open, with the key."""
        return f"http://127.0.0.1:{self._port}/?key={self.key}"

    def _checked(
        self, answer: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Let those in who have the key, and show what went wrong."""

        async def check_and_answer(request: Request) -> Response:
            refusal = self._refusal_of(request)
            if refusal is not None:
                return refusal
            try:
                return await answer(request)
            except HeadwayError as error:
                return _page(request, TITLE, render_error(str(error)), status=409)

        return check_and_answer

    def _refusal_of(self, request: Request) -> Response | None:
        own = f"127.0.0.1:{self._port}"
        origin = request.headers.get("origin")
        if request.headers.get("host") != own:
            return _page(request, TITLE, render_error(f"This is http://{own}/"), status=421)
        if origin is not None and urlsplit(origin).netloc != own:
            return _page(request, TITLE, render_error("Not from another site."), status=403)
        if _is_same(request.query_params.get("key"), self.key):
            # At once out of the address, which is kept and shown.
            first = RedirectResponse("/", status_code=303, headers=_HEADERS)
            first.set_cookie(self._cookie, self.key, httponly=True, samesite="strict")
            return first
        if not _is_same(request.cookies.get(self._cookie), self.key):
            text = "Open the address that headway dashboard has printed: it has a key."
            return _page(request, TITLE, render_error(text), status=403)
        return None

    async def _show_list(self, request: Request) -> Response:
        query = request.query_params
        is_failed = bool(query.get("failed"))
        wanted = RunFilter(
            every=is_failed or bool(query.get("all")),
            is_failed=is_failed,
            tool=query.get("tool") or None,
            who=query.get("who") or None,
        )
        async with self._looking:
            rows = await newest_in_all(self._journals, wanted)
        return _page(request, TITLE, render_list(rows, wanted, time()))

    async def _show_run(self, request: Request) -> Response:
        found, whole = await self._read_run(request)
        main = render_run(_page_of(found, whole))
        return _page(request, f"Run {whole.summary.reference}", main)

    async def _cancel(self, request: Request) -> Response:
        found, _ = await self._read_run(request)
        async with opened_journal(found.url) as journal:
            await send_control(journal, found.stream, CancelRequested("operator", REASON))
        return _to_run(found.stream)

    async def _retry(self, request: Request) -> Response:
        found, _ = await self._read_run(request)
        async with opened_journal(found.url) as journal:
            return _to_run(await retry_ended(journal, found.stream))

    async def _read_run(self, request: Request) -> tuple[FoundRun, WholeRun]:
        wanted: str = request.path_params["run"]

        async def look(place: str, journal: "Journal") -> list[tuple[FoundRun, WholeRun]]:
            streams = [s for s in await journal.streams(RUN_STREAMS) if run_id_of(s) == wanted]
            return [(FoundRun(place, s), await read_whole_run(journal, s)) for s in streams]

        async with self._looking:
            found = [run for some in await self._journals.ask_each(look) for run in some]
        if not found:
            raise Refused("there is no such run any more")
        return found[0]


def _page_of(found: FoundRun, whole: WholeRun) -> RunPage:
    now, run = time(), whole.summary
    shown = whole.result is not None and whole.error is None
    return RunPage(
        reference=run.reference,
        run=run.run,
        has_ended=run.times.ended is not None,
        facts=facts_of(found, whole),
        parts=[log_line(PART, "", part) for part in whole.parts],
        logs=[
            f"{time_text(m.time, now)} {log_line(m.logger, m.level, m.data)}" for m in whole.logs
        ],
        title="Result" if shown else "Error",
        text=text_of_result(whole.result) if shown and whole.result else whole.error or "",
        is_retriable=whole.arguments is not None,
    )


def _page(request: Request, title: str, main: str, *, status: int = 200) -> Response:
    whole = main if PART_HEADER in request.headers else render_page(title, main)
    # A lone surrogate, which a tool may have said, is no UTF-8.
    body = whole.encode("utf-8", "replace")
    return HTMLResponse(body, status_code=status, headers=_HEADERS)


def _to_run(stream: str) -> Response:
    return RedirectResponse(f"/runs/{run_id_of(stream)}", status_code=303, headers=_HEADERS)


def _is_same(given: str | None, key: str) -> bool:
    return given is not None and compare_digest(given.encode(), key.encode())

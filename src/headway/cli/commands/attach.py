"""`headway attach`: come back to a call that goes on, or has ended."""

import re
from typing import TYPE_CHECKING, Annotated

import typer

from headway.cli.commands.list_tools import Auth, EraOption, Headers, Output, headers_of
from headway.cli.commands.watched_call import (
    RETRY_FOR,
    Parts,
    Quiet,
    RetryFor,
    Timeout,
    TraceTo,
    View,
    opened_call,
    run_watching,
)
from headway.cli.display.line_file import open_files
from headway.cli.display.result_text import print_result
from headway.cli.exit_codes import Refused

if TYPE_CHECKING:
    from mcp_types import CallToolResult

USUAL_URL = "http://127.0.0.1:8000/mcp"

LONGEST_ID = 1024
"""Characters of a task's id that is taken."""

_HANDLE = re.compile(r"([\w-]{40})\.\d+")
"""A run of Headway's, and how far its reader has come."""


def attach(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="The id that `headway call` printed, or headway://runs/…."
        ),
    ],
    url: Annotated[
        str, typer.Argument(metavar="[URL]", help=f"The server. Default: {USUAL_URL}")
    ] = USUAL_URL,
    era: EraOption = None,
    output: Output = "text",
    timeout: Timeout = None,
    retry_for: RetryFor = RETRY_FOR,
    quiet: Quiet = False,
    parts: Parts = None,
    trace: TraceTo = None,
    header: Headers = None,
    auth: Auth = None,
) -> None:
    """Come back to a call: show its progress, and end with its result as `headway call` does.

    On a terminal Ctrl+C asks whether the call is to go on without you; elsewhere it cancels the
    call.
    """
    from headway.cli.client.peer import is_url

    if not is_url(url):
        raise Refused(f"{url} is no URL; a call goes on at a server, as in {USUAL_URL}")
    task_id, headers = _task_id(run), headers_of(header, url)
    with open_files(parts, trace) as files:
        way = (url, era, headers, header or (), timeout, retry_for)
        view = View(*way, quiet, parts, files, asks_login=auth is not None)
        print_result(run_watching(lambda: _attach(task_id, view)), output)


async def _attach(task_id: str, view: View) -> "CallToolResult":
    async with opened_call(view, f"Coming back to {task_id[:8]}", task_id=task_id) as call:
        return await call.result("the call")


def _task_id(run: str) -> str:
    """Return the id in a run's id, its URI, or a handle of `continue_run`; or of another server's
    task, which may be any word.
    """
    text = run.strip().removeprefix("headway://runs/")
    if not text.isprintable() or not 0 < len(text) <= LONGEST_ID or " " in text:
        raise Refused(f"{run!r} is no id of a call; `headway call --detach` prints one")
    handle = _HANDLE.fullmatch(text)
    return text if handle is None else handle[1]

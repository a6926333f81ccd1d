"""Serving an app over stdin and stdout: the streams, the signals, and a certain end.

This module must not know MCP. The client ends the server by closing its stdin; then, or at a
signal, everything that the server started has to be gone within 5 seconds. An orderly end is tried
first, and an independent thread takes care that it does not last too long.
"""

import signal
import sys
from functools import partial
from typing import TYPE_CHECKING

from headway.cli.exit_codes import report_line, root_of, start_failure
from headway.cli.server.event_loop import LoopName, run_until_done
from headway.cli.server.garbage_collector import tune_collector
from headway.cli.server.process_end import Deadline, exit_at_once
from headway.cli.server.process_tree import end_children, end_children_within, kill_children
from headway.cli.server.signals import stop_on_signals
from headway.cli.server.standard_streams import Streams
from headway.errors import HeadwayError
from headway.log_lines import quiet_logger
from headway.server import HeadwayApp, asgi
from headway.settings import Settings
from headway.transport.stdio.pipe import Pipe

if TYPE_CHECKING:
    from headway.audit import AuditConfig

logger = quiet_logger(__name__)

ASK_CHILDREN = 1.5
"""Seconds after the end began until child processes are asked to end (SIGTERM): until then their
tools may end them. A thread that waits for a child returns when the child ends."""

CHILDREN_GRACE = 0.5
"""Seconds between SIGTERM and SIGKILL for children when everything else has ended already."""

KILL_CHILDREN = 2.5
"""Seconds until the children that are left are killed."""

LEAVE = 3.5
"""Seconds until the process ends, whatever still runs in it. The official clients send SIGTERM
2 seconds after they closed stdin, and kill the process after 2 more."""

SWITCH_INTERVAL = 0.0005
"""As over HTTP: how long the event loop waits for a thread that computes."""


def leave_at_once(code: int) -> None:
    """End the process and its children here and now; the journal is safe against this."""
    kill_children()
    exit_at_once(code)


def serve_pipe(
    server: object,
    *,
    streams: Streams,
    journal: str,
    settings: Settings,
    audit: "AuditConfig | None" = None,
    loop: LoopName = "auto",
    stays: bool = False,
) -> None:
    """Serve `server` to the client at the other end of `streams` until that closes, or a signal
    comes.

    `stays`: the process may go on when this returns. Otherwise it is about to end, and is ended if
    it does not.

    Raises:
        SetupError: The app could not start.
        HeadwayError: The app raised while it stopped.
    """
    app = asgi(server, journal=journal, settings=settings, audit=audit)
    sys.setswitchinterval(SWITCH_INTERVAL)
    deadline = Deadline(
        (ASK_CHILDREN, partial(end_children, signal.SIGTERM)),
        (KILL_CHILDREN, kill_children),
        (LEAVE, partial(leave_at_once, 0)),
    )
    try:
        run_until_done(lambda: _serve_streams(app, streams, deadline), loop=loop)
    finally:
        deadline.begin()
        end_children_within(CHILDREN_GRACE)
        if stays:
            deadline.cancel()


async def _serve_streams(app: HeadwayApp, streams: Streams, deadline: Deadline) -> None:
    longest = app.engine.settings.max_body
    pipe = Pipe(streams.source, streams.sink, longest=longest, on_end=deadline.begin)
    is_ready = False

    def ready() -> None:
        nonlocal is_ready
        is_ready = True
        tune_collector()
        report_line(f"serving {app.name} on stdin and stdout (the end of stdin stops it)")

    stop_on_signals(
        lambda _number: pipe.end(),
        lambda number: leave_at_once(128 + number),
        at_once=deadline.begin,
    )
    try:
        await app.serve_pipe(pipe, ready=ready)
    except Exception as error:
        if not is_ready:
            raise start_failure(root_of(error)) from None
        logger.error("the server's own shutdown code raised", exc_info=error)
        raise HeadwayError(f"the server did not stop cleanly: {root_of(error)}") from None

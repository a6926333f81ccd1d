"""Serving an app over stdin and stdout: the streams, the signals, and an end that comes for sure.

This module must not know MCP. The client ends the server by closing its stdin; then, or at a
signal, everything that the server started has to be gone within 5 seconds. The orderly way is
tried first, and a thread that depends on nobody else sees that it does not take too long.
"""

import asyncio
import importlib.util
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from headway.cli.children import end_children, end_children_within, kill_children
from headway.cli.collector import keep_what_is_there
from headway.cli.exits import report, root_of, start_failure
from headway.cli.streams import Streams
from headway.errors import HeadwayError
from headway.server import HeadwayApp, asgi
from headway.settings import Settings
from headway.transport.pipe import Pipe

logger = logging.getLogger(__name__)

ASK_CHILDREN = 1.5
"""Seconds after the end began until child processes are asked to end (SIGTERM): their tools had
time to do it. A thread that waits for a child comes back with it."""

CHILDREN_GRACE = 0.5
"""Seconds that children get between both when everything else has ended already."""

KILL_CHILDREN = 2.5
"""Seconds until the children that are left are killed."""

LEAVE = 3.5
"""Seconds until the process ends, whatever still runs in it. The official clients send SIGTERM
2 seconds after they closed stdin, and kill the process after 2 more."""

SWITCH_INTERVAL = 0.0005
"""As over HTTP: how long the event loop waits for a thread that computes."""


class _Deadline:
    """Ends the process, and what it started, when the orderly way takes too long.

    A thread, because the event loop may be what hangs.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_running = False

    def begin(self) -> None:
        """The end has begun; from any thread, and as often as anybody notices."""
        with self._lock:
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, name="headway-deadline", daemon=True).start()

    def _run(self) -> None:
        time.sleep(ASK_CHILDREN)
        end_children(signal.SIGTERM)
        time.sleep(KILL_CHILDREN - ASK_CHILDREN)
        kill_children()
        time.sleep(LEAVE - KILL_CHILDREN)
        leave_at_once(0)


def leave_at_once(code: int) -> None:
    """End the process and its children here and now; the journal is safe against this."""
    kill_children()
    os._exit(code)


def serve_pipe(server: object, *, streams: Streams, journal: str, settings: Settings) -> None:
    """Serve `server` to the client behind `streams` until it closes its end, or a signal comes.

    Raises:
        SetupError: The app could not start.
        HeadwayError: It raised while it stopped.
    """
    app = asgi(server, journal=journal, settings=settings)
    sys.setswitchinterval(SWITCH_INTERVAL)
    deadline = _Deadline()
    runner = asyncio.Runner(loop_factory=_loop_factory())
    try:
        runner.run(_serve(app, streams, deadline))
    finally:
        deadline.begin()
        end_children_within(CHILDREN_GRACE)
        if not _has_threads():
            runner.close()  # else it would wait for one that does not come back


def _has_threads() -> bool:
    main = threading.main_thread()
    return any(not thread.daemon for thread in threading.enumerate() if thread is not main)


async def _serve(app: HeadwayApp, streams: Streams, deadline: _Deadline) -> None:
    longest = app.engine.settings.max_body
    pipe = Pipe(streams.source, streams.sink, longest=longest, on_end=deadline.begin)
    is_ready = False

    def ready() -> None:
        nonlocal is_ready
        is_ready = True
        keep_what_is_there()
        report(f"serving {app.name} on stdin and stdout (the end of stdin stops it)")

    _stop_on_signals(pipe, deadline)
    try:
        await app.serve_pipe(pipe, ready=ready)
    except Exception as error:
        if not is_ready:
            raise start_failure(root_of(error)) from None
        logger.error("the server's own shutdown code raised", exc_info=error)
        raise HeadwayError(f"the server did not stop cleanly: {root_of(error)}") from None


def _stop_on_signals(pipe: Pipe, deadline: _Deadline) -> None:
    """First signal: an orderly end. Second: now.

    Handlers of the process and not of the loop, so that they run when the loop hangs.
    """
    loop = asyncio.get_running_loop()
    told: list[int] = []

    def stop(number: int, _frame: object) -> None:
        if told:
            leave_at_once(128 + number)
        told.append(number)
        deadline.begin()
        with suppress(RuntimeError):  # the loop is closed: the end is near anyway
            loop.call_soon_threadsafe(pipe.end)

    for number in (signal.SIGINT, signal.SIGTERM, *_of_terminals()):
        signal.signal(number, stop)


def _of_terminals() -> list[signal.Signals]:
    """The signal of a terminal that was closed, where there is one."""
    return [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if importlib.util.find_spec("uvloop") is None:
        return None
    import uvloop

    return uvloop.new_event_loop

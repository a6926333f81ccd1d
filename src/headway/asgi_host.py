"""The ASGI server that an app lives in: that it was told to stop, and how many processes it has.

ASGI tells an app of the end with `lifespan.shutdown`, which servers send when all answers are
over. A stream that waits for news is never over, so somebody has to know earlier. Each server
knows, in an object of its own that is found where it waits: on the stack of the thread, or in the
coroutine of one of the loop's tasks. What is read of it is one row of `_KINDS`; where a server is
not known, or has changed, there is just the lifespan.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from inspect import currentframe
from types import FrameType
from typing import Any, Final

Locals = Callable[[], Mapping[str, Any]]
"""The local variables of a server's own function, as they are now."""


@dataclass(frozen=True, slots=True)
class Host:
    """The server in whose loop an app lives."""

    name: str
    is_stopping: Callable[[], bool]
    """Whether it was told to stop."""
    patience: float | None = None
    """Seconds that it then waits for answers before it cuts them; None: as long as they take."""
    processes: int = 1
    """How many of them serve the same app, as far as this one knows."""


def find_host() -> Host | None:
    """Return the server that drives the running loop, or None where it is none that is known."""
    found: Host | None = None
    processes, patience = _of_environment(), None
    for frame, read in _frames():
        kind = _KINDS.get((frame.f_globals.get("__name__", ""), frame.f_code.co_name))
        if kind is None:
            continue
        with suppress(Exception):  # another version of it: what is not there is not known
            host = kind(read)
            found = found or (host if host.name else None)
            processes = max(processes, host.processes)
            patience = host.patience if patience is None else patience
    if found is None:
        return None
    return Host(found.name, found.is_stopping, patience, processes)


def _of_environment() -> int:
    """How many processes the environment asks for, which several servers heed."""
    asked = os.environ.get("WEB_CONCURRENCY", "")
    return int(asked) if asked.isdecimal() else 1


def _frames() -> Iterator[tuple[FrameType, Locals]]:
    """The functions that wait for this one: of the thread, then of the loop's tasks."""
    frame = currentframe()
    while frame is not None:
        yield frame, _locals_of(frame)
        frame = frame.f_back
    for task in asyncio.all_tasks():
        waiting: Any = task.get_coro()
        while waiting is not None:
            inner = getattr(waiting, "cr_frame", None)
            if isinstance(inner, FrameType):
                yield inner, _locals_of(inner)
            waiting = getattr(waiting, "cr_await", None)


def _locals_of(frame: FrameType) -> Locals:
    return lambda: frame.f_locals


# What each of them is asked


def _uvicorn(read: Locals) -> Host:
    server = read()["self"]

    def is_stopping() -> bool:
        # It also ends by itself, after so many requests: then it only stops listening.
        sockets = getattr(server, "servers", ()) if server.started else ()
        return bool(server.should_exit) or (
            bool(sockets) and not any(each.is_serving() for each in sockets)
        )

    config = server.config
    return Host("uvicorn", is_stopping, config.timeout_graceful_shutdown, config.workers or 1)


def _hypercorn(read: Locals) -> Host:
    config = read()["config"]

    def is_stopping() -> bool:
        context = read().get("context")  # made when the app has started
        return context is not None and bool(context.terminated.is_set())

    return Host("hypercorn", is_stopping, config.graceful_timeout, config.workers)


def _gunicorn(read: Locals) -> Host:
    worker = read()["self"]
    patience = float(worker.cfg.graceful_timeout)
    return Host("gunicorn", lambda: not worker.alive, patience, worker.cfg.workers)


def _gunicorn_around(read: Locals) -> Host:
    """Gunicorn with uvicorn's worker: uvicorn is told, and gunicorn counts the seconds."""
    settings = read()["self"].cfg
    return Host("", bool, float(settings.graceful_timeout), settings.workers)


def _granian(read: Locals) -> Host:
    """Granian's worker, whose loop is woken by the signal and passes it on to Rust."""
    known = read()
    event = known["shutdown_event"]
    if event not in _HEARD:  # else by another app in this process
        told, loop = asyncio.Event(), asyncio.get_running_loop()

        def stop() -> None:
            told.set()
            event.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        _HEARD[event] = told
    return Host("granian", _HEARD[event].is_set, None, known["worker_id"])


_HEARD: Final[dict[object, asyncio.Event]] = {}
"""What is set with each of Granian's own events, which do not say whether they are."""


def _granian_around(read: Locals) -> Host:
    """Granian's parent, of which a forked worker still has the stack."""
    server = read()["self"]
    return Host("", bool, server.workers_kill_timeout, server.workers)


_KINDS: Final[Mapping[tuple[str, str], Callable[[Locals], Host]]] = {
    ("uvicorn.server", "serve"): _uvicorn,
    ("uvicorn.server", "_serve"): _uvicorn,
    ("hypercorn.asyncio.run", "worker_serve"): _hypercorn,
    ("gunicorn.workers.gasgi", "_serve"): _gunicorn,
    ("uvicorn.workers", "_serve"): _gunicorn_around,
    ("uvicorn_worker._workers", "_serve"): _gunicorn_around,
    ("granian.server.mp", "_spawn_asgi_lifespan_worker"): _granian,
    ("granian.server.mp", "_spawn_asgi_worker"): _granian,
    ("granian.server.common", "_spawn_workers"): _granian_around,
}
"""By the module and the function in which each waits while its apps live."""

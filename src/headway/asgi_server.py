"""The ASGI server that an app runs in: whether it is stopping, and how many processes it has.

ASGI announces the end with `lifespan.shutdown`, which servers send when all answers are complete. A
stream that waits for news never is, so the app has to know earlier. Each server has an object that
knows. It is found where the server waits: on the stack of the thread, or in the coroutine of one of
the loop's tasks. `_KINDS` has a row for each server; where a server is not known, or has changed,
there is just the lifespan.
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
    """The server in whose event loop an app runs."""

    name: str
    is_stopping: Callable[[], bool]
    """Returns whether the server is stopping."""
    patience: float | None = None
    """Seconds that it then waits for answers before it cuts them; None: as long as they take."""
    processes: int = 1
    """Number of processes that serve the same app, as far as this one knows."""


def find_host() -> Host | None:
    """Return the server that drives the running loop, or None for an unknown one."""
    found: Host | None = None
    processes, patience = _processes_asked_for(), None
    for frame, read in _waiting_frames():
        kind = _KINDS.get((frame.f_globals.get("__name__", ""), frame.f_code.co_name))
        if kind is None:
            continue
        with suppress(Exception):  # another version of the server, without this attribute
            host = kind(read)
            found = found or (host if host.name else None)
            processes = max(processes, host.processes)
            patience = host.patience if patience is None else patience
    if found is None:
        return None
    return Host(found.name, found.is_stopping, patience, processes)


def _processes_asked_for() -> int:
    """Return the number of processes that the environment asks for; several servers heed it."""
    asked = os.environ.get("WEB_CONCURRENCY", "")
    return int(asked) if asked.isdecimal() else 1


def _waiting_frames() -> Iterator[tuple[FrameType, Locals]]:
    """Yield the functions that are waiting: on the thread's stack, then in the loop's tasks."""
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


# The readers of each server's state


def _read_uvicorn(read: Locals) -> Host:
    server = read()["self"]

    def is_stopping() -> bool:
        # It also ends by itself, after so many requests: then it only stops listening.
        sockets = getattr(server, "servers", ()) if server.started else ()
        return bool(server.should_exit) or (
            bool(sockets) and not any(each.is_serving() for each in sockets)
        )

    config = server.config
    return Host("uvicorn", is_stopping, config.timeout_graceful_shutdown, config.workers or 1)


def _read_hypercorn(read: Locals) -> Host:
    config = read()["config"]

    def is_stopping() -> bool:
        context = read().get("context")  # made when the app has started
        return context is not None and bool(context.terminated.is_set())

    return Host("hypercorn", is_stopping, config.graceful_timeout, config.workers)


def _read_gunicorn(read: Locals) -> Host:
    worker = read()["self"]
    patience = float(worker.cfg.graceful_timeout)
    return Host("gunicorn", lambda: not worker.alive, patience, worker.cfg.workers)


def _read_gunicorn_parent(read: Locals) -> Host:
    """Read Gunicorn around uvicorn's worker: uvicorn stops, and Gunicorn has the time limit."""
    settings = read()["self"].cfg
    return Host("", bool, float(settings.graceful_timeout), settings.workers)


def _read_granian(read: Locals) -> Host:
    """Read Granian's worker, whose loop is woken by the signal and passes it on to Rust."""
    known = read()
    event = known["shutdown_event"]
    if event not in _HEARD:  # otherwise another app in this process made it
        told, loop = asyncio.Event(), asyncio.get_running_loop()

        def stop() -> None:
            told.set()
            event.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        _HEARD[event] = told
    return Host("granian", _HEARD[event].is_set, None, known["worker_id"])


_HEARD: Final[dict[object, asyncio.Event]] = {}
"""An event set together with each of Granian's own, which cannot be asked."""


def _read_granian_parent(read: Locals) -> Host:
    """Read Granian's parent, of which a forked worker still has the stack."""
    server = read()["self"]
    return Host("", bool, server.workers_kill_timeout, server.workers)


_KINDS: Final[Mapping[tuple[str, str], Callable[[Locals], Host]]] = {
    ("uvicorn.server", "serve"): _read_uvicorn,
    ("uvicorn.server", "_serve"): _read_uvicorn,
    ("hypercorn.asyncio.run", "worker_serve"): _read_hypercorn,
    ("gunicorn.workers.gasgi", "_serve"): _read_gunicorn,
    ("uvicorn.workers", "_serve"): _read_gunicorn_parent,
    ("uvicorn_worker._workers", "_serve"): _read_gunicorn_parent,
    ("granian.server.mp", "_spawn_asgi_lifespan_worker"): _read_granian,
    ("granian.server.mp", "_spawn_asgi_worker"): _read_granian,
    ("granian.server.common", "_spawn_workers"): _read_granian_parent,
}
"""The reader for each module and function in which a server waits while its apps run."""

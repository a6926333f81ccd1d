"""Code around a cancel: `shield` for work that has to be finished, `on_cancel` for hooks."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import Token
from types import TracebackType
from typing import Self

import anyio

from headway.engine import current_run
from headway.engine.run.cancellation import Cancellation, Hook, is_shielded


class shield:
    """A context whose body is finished even when the run is cancelled: `with shield():`.

    It works in async code too. Use it for work that must not be left half done: a commit, a payment
    and the note that it was made. A cancel that comes meanwhile takes effect after it, in async
    code at the next await and in a thread at the next call into Headway, and the caller waits for
    that. Keep it short: nothing limits it but the end of the process, which waits 5 s beyond its
    grace period. It does not protect from a crash.
    """

    def __init__(self) -> None:
        self._scope: anyio.CancelScope | None = None
        self._token: Token[bool] | None = None
        self._cancellation: Cancellation | None = None

    def __enter__(self) -> Self:
        self._cancellation = _current_cancellation()
        if self._cancellation is not None:
            self._cancellation.enter_shield()
        self._token = is_shielded.set(True)
        if _in_task():
            self._scope = anyio.CancelScope(shield=True)
            self._scope.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        try:
            return self._scope.__exit__(kind, error, trace) if self._scope is not None else None
        finally:
            if self._token is not None:
                is_shielded.reset(self._token)
            if self._cancellation is not None:
                self._cancellation.leave_shield()


@contextmanager
def on_cancel(hook: Hook) -> Generator[None]:
    """Return a context in which `hook` is called when the run is asked to stop, whoever asks.

    Use it for calls that block a thread and can be interrupted, such as a query:
    `with on_cancel(connection.interrupt): ...`. The hook is called without arguments, at most once,
    in another thread, or on the event loop if it is an async function; what it raises is logged. A
    run that was stopped already calls it at once.
    """
    stops = _current_cancellation()
    if stops is None:
        yield
        return
    stops.add_hook(hook)
    try:
        yield
    finally:
        stops.remove_hook(hook)


def _current_cancellation() -> Cancellation | None:
    run = current_run.get()
    return None if run is None else run.cancellation


def _in_task() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False

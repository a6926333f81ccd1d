"""How far a tool is: `report` and `track`."""

import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from headway.engine import current_run

logger = logging.getLogger(__name__)

T = TypeVar("T")

Label = str | Callable[[Any], str]
"""A message for an item: a format with `{item}`, or a function of the item."""


def report(progress: float, total: float | None = None, message: str | None = None) -> None:
    """Report how far the tool is.

    The client sees the newest value at a sensible rate and always the last one. Values that do
    not grow, and NaN, are absorbed; `total` may grow, and is remembered when it is left out.

    Raises:
        RunCancelled: In a thread, when the run was cancelled. Let it pass.
    """
    run = current_run.get()
    if run is not None:
        run.report(progress, total, message)


def track(
    items: Iterable[T] | AsyncIterable[T],
    *,
    total: float | None = None,
    message: Label | None = None,
) -> "Track[T]":
    """The same items, with progress: how many are done, of how many, and which is next.

    For `for` (also in threads) and, over an async iterable, for `async for`. `total` is the
    number of items where they have a length. `message` is shown while an item is worked on.

    Raises:
        RunCancelled: Between items in a thread, when the run was cancelled. Let it pass.
    """
    return Track(items, total, message)


class Track(Generic[T]):
    """What `track` returns."""

    def __init__(
        self,
        items: Iterable[T] | AsyncIterable[T],
        total: float | None,
        message: Label | None,
    ) -> None:
        self._items = items
        self._message = message
        self._done = 0
        length = getattr(items, "__len__", None)
        self._total: float | None = length() if total is None and length is not None else total

    def __iter__(self) -> Iterator[T]:
        if not isinstance(self._items, Iterable):
            raise TypeError("these items are asynchronous: use async for")
        for item in self._items:
            self._begin(item)
            yield item
            self._done += 1
        self._finish()

    async def __aiter__(self) -> AsyncIterator[T]:
        if isinstance(self._items, AsyncIterable):
            async for item in self._items:
                self._begin(item)
                yield item
                self._done += 1
        else:
            for item in self._items:
                self._begin(item)
                yield item
                self._done += 1
                run = current_run.get()
                if run is not None:
                    await run.breathe()
        self._finish()

    def _begin(self, item: T) -> None:
        run = current_run.get()
        if run is None:
            return
        label = self._message
        if label is None:
            run.report(self._done, self._total, None)
        else:
            run.report(self._done, self._total, lambda: _describe(label, item))

    def _finish(self) -> None:
        total = self._done if self._total is None else self._total
        ending = None if self._message is None else f"{self._done} done"
        report(self._done, max(total, self._done), ending)


def _describe(label: Label, item: object) -> str:
    """The message for an item. A label that fails gives an empty one: it is made when the report
    is written, which may be long after the tool went on, and in the middle of reporting.
    """
    outside = current_run.set(None)  # a label that reports something itself is not heard
    try:
        return str(label(item) if callable(label) else label.format(item=item))
    except Exception:  # the author's function: it may raise anything
        logger.exception("no message for an item: the label of track() failed")
        return ""
    finally:
        current_run.reset(outside)

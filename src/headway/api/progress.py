"""Progress of a tool: `report`, `track` and `stage`."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sized
from types import TracebackType
from typing import Generic, Self, TypeVar, cast

from headway.api.checkpointing import Name, TrackCheckpoints, item_checkpoints_for
from headway.engine import ToolRun, current_run, warn_unheard, warn_unused
from headway.engine.run.progress_pacing import LARGEST
from headway.engine.run.stages import Items, Label, Node, current_node, innermost_node

T = TypeVar("T")


def report(progress: float, total: float | None = None, message: str | None = None) -> None:
    """Report how far the tool is, or the stage or item that it works in.

    The client sees the newest value at a sensible rate and always the last one. Values that do
    not grow, and NaN, are absorbed; `total` may grow, and is remembered when it is left out.

    Raises:
        RunCancelled: In a thread, when the run was cancelled. Let it pass.
    """
    run = current_run.get()
    if run is None:
        warn_unheard("report()")
        return
    run.output.report(progress, total, message)


def stage(name: str | None = None, *, weight: float = 1, total: float | None = None) -> "Stage":
    """Return a context for a part of the work: `with stage("Upload", weight=3):`, or `async with`.

    It takes `weight` units of the stage around it, or of the tool; what is reported inside fills
    it, and stages inside share it. A stage without a declared `total` is as large as the stages
    and tracks inside it together, so its total grows as they begin. Stages that are open at the
    same time, in tasks or in threads that copy the context (`asyncio.to_thread`), add up.

    Left in order it counts as full; left by an exception, as far as it came.

    Raises:
        ValueError: `weight` is not above zero.
    """
    return Stage(name, weight, total)


def track(
    items: Iterable[T] | AsyncIterable[T],
    *,
    total: float | None = None,
    message: Label | None = None,
    weight: float | None = None,
    checkpoint: bool | Name = False,
) -> "Track[T]":
    """Return the same items, with progress: how many are done, of how many, and the current one.

    For `for` (also in threads) and, over an async iterable, for `async for`. `total` is the
    number of items where they have a length. `message` is shown while an item is worked on: a
    format with `{item}`, or a function of the item. Stages and tracks inside share the item that
    is worked on. `weight` is how many units of the stage around it all items take together; the
    number of items unless given.

    With `checkpoint`, in a tool with `restart=True`, an item whose turn of the loop was finished is
    left out when another process goes on with the run after a crash or a deploy; what was
    finished in the last milliseconds before a crash may come again. Items are told apart by what
    they are as JSON (texts, numbers, paths, dicts, dataclasses, models), so they may come in
    another order; give a function that names an item where they are something else.

    Raises:
        RunCancelled: Between items in a thread, when the run was cancelled. Let it pass.
        TypeError: With `checkpoint`: nothing says what names an item.
        ValueError: `weight` is not above zero.
    """
    return Track(items, total, message, weight, checkpoint)


class Stage:
    """The result of `stage`. Its `report` is for code outside of the context."""

    def __init__(self, name: str | None, weight: float, total: float | None) -> None:
        self._options = (None if name is None else str(name), _check_weight(weight), total)
        self._entered: list[tuple[ToolRun, Node, Node | None]] = []
        self._is_used = False

    def __del__(self) -> None:
        if not getattr(self, "_is_used", True):
            warn_unused("stage()", "write `with stage(...):` or `async with stage(...):`")

    def report(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        """Report how far this stage is, from any code; does nothing when the stage is over."""
        if self._entered:
            run, node, _ = self._entered[-1]
            node.report(progress, total, message)
            run.output.write_sample()

    def __enter__(self) -> Self:
        self._is_used = True
        run = current_run.get()
        if run is None:
            warn_unheard("stage()")
        else:
            node = Node(innermost_node(run.output.open_stages()), *self._options)
            node.open()
            self._entered.append((run, node, current_node.get()))
            current_node.set(node)
            run.output.write_sample()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._entered:
            run, node, outside = self._entered.pop()
            current_node.set(outside)
            node.close(full=kind is None)
            if kind is None:
                run.output.write_sample()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)


class Track(Generic[T]):
    """The result of `track`."""

    def __init__(
        self,
        items: Iterable[T] | AsyncIterable[T],
        total: float | None,
        message: Label | None,
        weight: float | None,
        checkpoint: bool | Name,
    ) -> None:
        self._items = items
        self._checkpoint = checkpoint
        self._message = message
        self._weight = None if weight is None else _check_weight(weight)
        self._total: float | None = _size_of(items) if total is None else total
        self._is_used = False

    def __del__(self) -> None:
        if not getattr(self, "_is_used", True):
            warn_unused("track()", "write `for item in track(...):`")

    def __iter__(self) -> Iterator[T]:
        if isinstance(self._items, AsyncIterable) and not isinstance(self._items, Iterable):
            raise TypeError("these items are asynchronous: use async for")
        self._is_used = True
        # Without `__iter__` an object may still have `__getitem__`.
        items, run = iter(cast("Iterable[T]", self._items)), current_run.get()
        if run is None:
            warn_unheard("track()")
            return items
        return self._iterate_items(run, items)

    def __aiter__(self) -> AsyncIterator[T]:
        self._is_used = True
        run = current_run.get()
        if run is None:
            warn_unheard("track()")
        return _TrackedIterator(self._items, run, self._open_node)

    def _open_node(self, run: ToolRun) -> tuple[Items, TrackCheckpoints | None]:
        parent = innermost_node(run.output.open_stages()) or run.output.open_stages()
        node = Items(parent, self._message, self._weight, self._total)
        marks = item_checkpoints_for(run, self._checkpoint)
        node.open()
        node.marks = marks
        return node, marks

    def _iterate_items(self, run: ToolRun, items: Iterator[T]) -> Iterator[T]:
        # This code runs for each item at the author's cost, so it does nothing that can wait.
        (node, marks), outside = self._open_node(run), current_node.get()
        root, begin, touch = node.root, node.begin_item, run.output.write_sample
        current_node.set(node)
        full = False
        try:
            for item in items:
                if marks is not None and marks.is_done(item):
                    node.done += 1
                    continue
                begin(item)
                if not root.pending:
                    touch()
                elif run.stop_event is not None:
                    run.output.check_not_stopped()
                yield item
                node.done += 1
                if marks is not None:
                    marks.mark_done()
            full = True
        finally:
            if current_node.get() is node:
                current_node.set(outside)
            node.close(full=full)
        touch()


class _TrackedIterator(Generic[T]):
    """The iterator of `async for`. A class, so that a `break` closes it at once."""

    def __init__(
        self,
        items: Iterable[T] | AsyncIterable[T],
        run: ToolRun | None,
        opened: Callable[[ToolRun], tuple[Items, TrackCheckpoints | None]],
    ) -> None:
        is_async = isinstance(items, AsyncIterable)
        self._async = aiter(items) if is_async else None
        self._sync = iter(items) if not is_async else None
        self._run = run
        self._outside = current_node.get()
        if run is None:
            warn_unheard("track()")
        self._node, self._marks = (None, None) if run is None else opened(run)
        if self._node is not None:
            current_node.set(self._node)
        self._is_first = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        run, node = self._run, self._node
        if run is None or node is None:
            return await self._next_item()
        if not self._is_first:
            node.done += 1
            if self._marks is not None:
                self._marks.mark_done()
            if self._sync is not None:
                await run.output.yield_if_due()
        self._is_first = False
        try:
            item = await self._next_item()
            while self._marks is not None and self._marks.is_done(item):
                node.done += 1
                await run.output.yield_if_due()
                item = await self._next_item()
        except StopAsyncIteration:
            self._close_node(node, full=True)
            run.output.write_sample()
            raise
        except BaseException:
            self._close_node(node, full=False)
            raise
        node.begin_item(item)
        if not node.root.pending:
            run.output.write_sample()
        return item

    async def _next_item(self) -> T:
        if self._async is not None:
            return await anext(self._async)
        assert self._sync is not None
        try:
            return next(self._sync)
        except StopIteration:
            raise StopAsyncIteration from None

    def _close_node(self, node: Node, *, full: bool) -> None:
        if current_node.get() is node:
            current_node.set(self._outside)
        node.close(full=full)

    def __del__(self) -> None:
        node = getattr(self, "_node", None)
        if node is not None:
            node.close(full=False)


def _check_weight(weight: float) -> float:
    if not 0 < weight <= LARGEST:
        raise ValueError(f"weight must be a number above zero, not {weight!r}")
    return weight


def _size_of(items: object) -> int | None:
    """Return the number of items, or None: some have a `__len__` that only raises."""
    try:
        return len(cast("Sized", items))
    except (TypeError, AttributeError, NotImplementedError):
        return None

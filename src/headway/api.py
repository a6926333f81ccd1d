"""What authors of tools hold: `Headway`, `track`, `report`, `part`, `log`.

All but `Headway` are plain calls without a context parameter: they find the run that the
current task or thread works for, and do nothing where there is none, so that a tool's
functions can be called and tested on their own. None of them ever waits.
"""

import inspect
import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar, cast

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.utilities.context_injection import find_context_parameter
from mcp.server.subscriptions import SubscriptionBus
from mcp_types import (
    CallToolResult,
    Icon,
    InputRequiredResult,
    InputResponseRequestParams,
    ToolAnnotations,
)
from pydantic import BaseModel

from headway.engine import ToolOptions, current_run
from headway.errors import SetupError
from headway.protocol.eras import LOG_LEVELS
from headway.settings import parse_duration

logger = logging.getLogger(__name__)

T = TypeVar("T")
_CallableT = TypeVar("_CallableT", bound=Callable[..., Any])

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


def log(data: object, level: str = "info", *, logger: str | None = None) -> None:
    """Send a log message to the client, if it wants messages of this level.

    `data` is text or anything JSON can hold.

    Raises:
        ValueError: `level` is none of MCP's eight levels.
        RunCancelled: In a thread, when the run was cancelled. Let it pass.
    """
    if level not in LOG_LEVELS:
        raise ValueError(f"level {level!r} is none of {', '.join(LOG_LEVELS)}")
    run = current_run.get()
    if run is not None:
        run.log(level, _jsonable(data), logger)


def part(value: object) -> None:
    """Give out a partial result: text, or anything JSON can hold.

    It is an entry of the run at once, for whoever follows it. The tool's return value stands
    for itself: parts are not added to it.

    Raises:
        TypeError: JSON cannot hold the value.
        RunCancelled: In a thread, when the run was cancelled. Let it pass.
    """
    run = current_run.get()
    if run is not None:
        run.part(_jsonable(value))


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


class RunBoundContext(Context[Any, Any]):
    """The SDK's `Context` with a shorter way from a report to the run.

    The SDK's own way reads a private field of a pydantic model twice for each report, which
    takes longer than everything that Headway does with it.
    """

    def __init__(self, context: Context[Any, Any], bus: SubscriptionBus) -> None:
        super().__init__(
            request_context=context.request_context,
            mcp_server=context.mcp_server,
            input_params=InputResponseRequestParams(
                input_responses=context.input_responses, request_state=context.request_state
            ),
            subscriptions=bus,
        )

    async def report_progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        """As in the SDK; paced, and without a step through its session."""
        run = current_run.get()
        if run is None:
            await super().report_progress(progress, total, message)
            return
        run.report(progress, total, message)
        await run.breathe()


class Headway(MCPServer[Any]):
    """An `MCPServer` whose tools may say how they want to be run.

    Everything else is the SDK's: resources, prompts, auth, lifespan, custom routes.
    """

    def __init__(self, name: str | None = None, **options: Any) -> None:
        super().__init__(name, **options)
        self.tool_options: dict[str, ToolOptions] = {}
        self._with_context: set[str] = set()

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """As in the SDK; a tool that takes a context gets one bound to its run."""
        if context is not None and name in self._with_context:
            context = RunBoundContext(context, self._subscriptions)
        return await super().call_tool(name, arguments, context)

    def add_tool(
        self,
        fn: Callable[..., Any],
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        annotations: ToolAnnotations | None = None,
        icons: list[Icon] | None = None,
        meta: dict[str, Any] | None = None,
        structured_output: bool | None = None,
        *,
        timeout: str | float | None = None,
        concurrency: int | None = None,
    ) -> None:
        """Register a tool; see `tool`."""
        options = _options(fn, name or fn.__name__, timeout, concurrency)
        # Without this the model reads the docstring with the source's indentation.
        description = description or inspect.getdoc(fn)
        super().add_tool(fn, name, title, description, annotations, icons, meta, structured_output)
        name = name or fn.__name__
        self.tool_options[name] = options
        if find_context_parameter(fn) is not None:
            self._with_context.add(name)

    def tool(
        self,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        annotations: ToolAnnotations | None = None,
        icons: list[Icon] | None = None,
        meta: dict[str, Any] | None = None,
        structured_output: bool | None = None,
        *,
        timeout: str | float | None = None,
        concurrency: int | None = None,
    ) -> Callable[[_CallableT], _CallableT]:
        """Decorator: make a function a tool.

        Async functions run on the event loop, sync ones in threads. The first seven arguments
        are the SDK's own.

        Args:
            name: The tool's name; the function's when left out.
            title: A name for people.
            description: What it does; the docstring when left out.
            annotations: The SDK's hints for clients.
            icons: The SDK's icons.
            meta: `_meta` of the tool.
            structured_output: Whether results are structured; by the return type when left out.
            timeout: How long a run may take: seconds, or `500ms`, `45s`, `30m`, `2h`.
            concurrency: How many runs at once; more wait in order and report their place.

        Raises:
            SetupError: `timeout` or `concurrency` makes no sense.
        """
        if callable(name):
            raise TypeError("write @mcp.tool() with parentheses")

        def register(fn: _CallableT) -> _CallableT:
            self.add_tool(
                fn, name, title, description, annotations, icons, meta, structured_output,
                timeout=timeout, concurrency=concurrency,
            )  # fmt: skip
            return fn

        return register


def _options(
    fn: Callable[..., Any], name: str, timeout: str | float | None, concurrency: int | None
) -> ToolOptions:
    if concurrency is not None and concurrency < 1:
        raise SetupError(f"tool {name!r}: concurrency must be at least 1")
    try:
        seconds = None if timeout is None else parse_duration(timeout)
    except SetupError as error:
        raise SetupError(f"tool {name!r}: timeout {error}") from None
    return ToolOptions(seconds, concurrency, threaded=not _is_async(fn))


def _is_async(fn: Callable[..., Any]) -> bool:
    function = fn
    while hasattr(function, "func"):
        function = cast("Callable[..., Any]", getattr(function, "func"))  # noqa: B009 - a partial
    call = getattr(function, "__call__", None)  # noqa: B004 - its kind is asked, not callability
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _jsonable(value: object) -> object:
    return value.model_dump(mode="json", by_alias=True) if isinstance(value, BaseModel) else value

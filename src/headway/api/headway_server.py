"""The server that authors register their tools on."""

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, cast

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import UnexpectedToolError
from mcp.server.mcpserver.utilities.context_injection import find_context_parameter
from mcp.server.subscriptions import SubscriptionBus
from mcp_types import (
    CallToolResult,
    Icon,
    InputRequiredResult,
    InputResponseRequestParams,
    ToolAnnotations,
)

from headway.api.exception_groups import as_one_error
from headway.api.generators import as_tool, await_result, works_in_thread
from headway.api.output import log
from headway.api.raised_errors import note_raised
from headway.api.sdk_requests import InProcess, Lifespan
from headway.api.sdk_ways_in import ServesItself
from headway.api.tool_results import ToolMetadata, prepare_function
from headway.engine import DEFAULT_QUEUE, ToolOptions, current_run
from headway.errors import SetupError
from headway.rate_limits import parse_rate
from headway.settings import is_name, is_scope, parse_duration, parse_window

_CallableT = TypeVar("_CallableT", bound=Callable[..., Any])
_ServerT = TypeVar("_ServerT")
_P = ParamSpec("_P")


def _with_parameters_of(
    add: Callable[Concatenate[_ServerT, Callable[..., Any], _P], None],
) -> Callable[
    [Callable[..., Any]], Callable[Concatenate[_ServerT, _P], Callable[[_CallableT], _CallableT]]
]:
    """Declare a decorator's parameters as those of the method that it registers functions with.

    So they are written once, and are exact for type checkers, editors and `inspect.signature`. The
    decorator has all of them but the function.
    """
    own, _function, *others = inspect.signature(add).parameters.values()

    def declare(decorator: Callable[..., Any]) -> Callable[..., Any]:
        setattr(decorator, "__signature__", inspect.Signature([own, *others]))  # noqa: B010
        return decorator

    return declare


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
        run.output.report(progress, total, message)
        await run.output.yield_if_due()

    async def log(self, level: Any, data: Any, *, logger_name: str | None = None) -> None:
        """As in the SDK; `data` is anything that `headway.log` takes."""
        if current_run.get() is None:
            await super().log(level, data, logger_name=logger_name)  # pyright: ignore[reportDeprecated]
        else:
            log(data, level, logger=logger_name)


class Headway(ServesItself):
    """An `MCPServer` whose tools have options for how they are run.

    Everything else is the SDK's: resources, prompts, auth, lifespan, custom routes. However it is
    served, its tools run in Headway's engine: by its own `run`, as an app, or in memory.
    """

    def __init__(
        self, name: str | None = None, *, lifespan: Lifespan | None = None, **options: Any
    ) -> None:
        self.tool_options: dict[str, ToolOptions] = {}
        in_process = InProcess(self.tool_options)
        super().__init__(name, lifespan=in_process.wrap_lifespan(lifespan), **options)
        # Outside of all other middleware, as the code that serves it over HTTP is.
        self.middleware.insert(0, in_process.middleware)
        self._with_context: set[str] = set()
        for tool in self._tool_manager.list_tools():  # those of `tools=`
            self._prepare_tool(tool.name, ignore_unknown=False, may_be_authors=True)

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """As in the SDK; a tool that takes a context gets one bound to its run.

        An exception group of a tool becomes the one exception that it stands for.
        """
        if context is not None and name in self._with_context:
            context = RunBoundContext(context, self._subscriptions)
        try:
            return await super().call_tool(name, arguments, context)
        except Exception as error:
            note_raised(error)
            if isinstance(error, UnexpectedToolError):
                raise as_one_error(name, error) from error.__cause__
            raise

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
        concurrency_each: int | None = None,
        calls_each: str = "",
        rate: float | None = None,
        hand_over: str | float | None = None,
        detached: bool = False,
        restart: bool = False,
        needs_task: bool = False,
        where: Literal["here", "worker"] | None = None,
        queue: str = DEFAULT_QUEUE,
        scopes: Sequence[str] | None = None,
        ignore_unknown: bool = False,
    ) -> None:
        """Register a tool; see `tool`."""
        is_threaded, fn = works_in_thread(fn), as_tool(fn)
        options = _tool_options(
            name or fn.__name__,
            timeout=timeout,
            concurrency=concurrency,
            concurrency_each=concurrency_each,
            calls_each=calls_each,
            rate=rate,
            hand_over=hand_over,
            detached=detached,
            restart=restart,
            needs_task=needs_task,
            where=where,
            queue=queue,
            scopes=scopes,
            threaded=is_threaded,
        )
        if options.hand_over == 0:
            fn = _announce_begin(fn)
        # Without this the model reads the docstring with the source's indentation.
        description = description or inspect.getdoc(fn)
        super().add_tool(fn, name, title, description, annotations, icons, meta, structured_output)
        name = name or fn.__name__
        self._prepare_tool(name, ignore_unknown=ignore_unknown)
        self.tool_options[name] = options
        if find_context_parameter(fn) is not None:
            self._with_context.add(name)

    def _prepare_tool(
        self, name: str, *, ignore_unknown: bool, may_be_authors: bool = False
    ) -> None:
        """Give a registered tool Headway's rules for what goes in and out."""
        tool = self._tool_manager.get_tool(name)
        if tool is not None and not isinstance(tool.fn_metadata, ToolMetadata):
            metadata = tool.fn_metadata
            made = prepare_function(
                metadata,
                tool.parameters,
                ignores_unknown=ignore_unknown,
                may_be_authors=may_be_authors,
            )
            tool.fn_metadata, tool.parameters = made

    @_with_parameters_of(add_tool)
    def tool(self, *args: Any, **options: Any) -> Callable[[_CallableT], _CallableT]:
        """Decorator: make a function a tool.

        Async functions run on the event loop, sync ones in threads. What a generator function
        yields is a part at once; its result is what it returns, or else the list of what it
        yielded. The first seven arguments are the SDK's own.

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
            concurrency_each: How many of these for one authenticated caller; more wait likewise.
            calls_each: How many calls one caller may make of it, in all processes that share a
                journal: `5/s`, `60/m`, `100/10m`. More are refused with 429. `[limits.tools]` of
                the operator has the last word.
            rate: Progress messages a second, at most; 0: every report. The server's when left out.
            hand_over: After how long a call is answered with a handle while it goes on: a task
                where the client knows tasks, else a `run_id` for the tool `continue_run`. A
                duration, `at once` or `never`; the server's when left out.
            detached: A run goes on when its 2026-07-28 client is gone; else that cancels it. Runs
                of earlier revisions always go on. Its result is in the journal for its time.
            restart: When the server process dies, the run is begun anew by another process on the
                same journal file, or at the next start: at most twice. Its progress never goes
                back; it cannot ask the client anything then. For work that may be done twice.
            needs_task: Refuse clients of 2026-07-28 and 2025-11-25 that want no task.
            where: `worker`: a run of it is executed by a `headway worker` on the same journal in
                Redis; `here`: by the server that accepts it. As the server's setting says when left
                out. On a journal that workers cannot share everything is executed here.
            queue: The queue in which its runs wait for a worker: workers serve those they are told.
            scopes: What the access token of a caller must have, over HTTP, besides the scopes of
                every request. Others are refused, do not see the tool listed, and do not get its
                results. `[auth.tools]` of the operator has the last word.
            ignore_unknown: Drop arguments that the tool does not have, as the SDK does, instead of
                refusing the call with their names. Also of the models that an argument is made of.

        Raises:
            SetupError: An option makes no sense, or two of them contradict each other.
        """
        if callable(args[0] if args else options.get("name")):
            raise TypeError("write @mcp.tool() with parentheses")
        # A wrong argument is refused here, where it stands, and not where the function is.
        try:
            inspect.signature(Headway.tool).bind(self, *args, **options)
        except TypeError as error:
            raise TypeError(f"Headway.tool() {error}") from None

        def register(fn: _CallableT) -> _CallableT:
            self.add_tool(fn, *args, **options)
            return fn

        return register

    def resource(self, uri: str, **options: Any) -> Callable[[_CallableT], _CallableT]:
        """As in the SDK; an async function in a plain decorator is awaited."""
        register = super().resource(uri, **options)

        def decorate(fn: _CallableT) -> _CallableT:
            register(await_result(fn))
            return fn

        return decorate

    def prompt(
        self, name: str | None = None, *args: Any, **options: Any
    ) -> Callable[[_CallableT], _CallableT]:
        """As in the SDK; an async function in a plain decorator is awaited."""
        register = super().prompt(name, *args, **options)

        def decorate(fn: _CallableT) -> _CallableT:
            register(await_result(fn))
            return fn

        return decorate


def _tool_options(
    name: str,
    *,
    timeout: str | float | None,
    concurrency: int | None,
    concurrency_each: int | None,
    calls_each: str,
    rate: float | None,
    hand_over: str | float | None,
    detached: bool,
    restart: bool,
    needs_task: bool,
    where: Literal["here", "worker"] | None,
    queue: str,
    scopes: Sequence[str] | None,
    threaded: bool,
) -> ToolOptions:
    """Return the options of a tool, in seconds.

    Raises:
        SetupError: The text names the tool and the option that makes no sense.
    """
    try:
        options = ToolOptions(
            timeout=None if timeout is None else _read_option("timeout", parse_duration, timeout),
            concurrency=concurrency,
            concurrency_each=concurrency_each,
            calls_each=calls_each,
            threaded=threaded,
            rate=rate,
            hand_over=None
            if hand_over is None
            else _read_option("hand_over", parse_window, hand_over),
            detached=detached,
            restart=restart,
            needs_task=needs_task,
            where=where,
            queue=queue,
            scopes=None if scopes is None else _read_scopes(scopes),
        )
        for fault in _find_faults(options):
            raise SetupError(fault)
    except SetupError as error:
        raise SetupError(f"tool {name!r}: {error}") from None
    return options


def _read_option(option: str, parse: Callable[[str | float], float], value: str | float) -> float:
    try:
        return parse(value)
    except SetupError as error:
        raise SetupError(f"{option} {error}") from None


def _read_scopes(scopes: Sequence[str]) -> tuple[str, ...]:
    if isinstance(scopes, str):
        raise SetupError(f"scopes must be a list such as [{scopes!r}], not a text")
    for each in scopes:
        if not is_scope(each):
            raise SetupError(f"scopes has {each!r}, which is no scope: blanks, quotes or no text")
    return tuple(dict.fromkeys(scopes))


def _find_faults(options: ToolOptions) -> Iterator[str]:
    """Yield the faults of options that are each of the right kind."""
    window, limit = options.hand_over, options.timeout
    counts = {
        "concurrency": options.concurrency, "concurrency_each": options.concurrency_each
    }  # fmt: skip
    for name, number in counts.items():
        if number is not None and not _is_count(number):
            yield f"{name} must be a whole number of at least 1, not {number!r}"
    if options.calls_each:
        try:
            parse_rate(str(options.calls_each))
        except SetupError as error:
            yield f"calls_each {error}"
    if options.rate is not None and not _is_rate(options.rate):
        yield f"rate must be messages a second, or 0 for all of them, not {options.rate!r}"
    if options.where not in (None, "here", "worker"):
        yield f"where is 'here' or 'worker', not {options.where!r}"
    if not is_name(options.queue):
        yield f"queue must be a word of letters, digits, - and _, not {options.queue!r}"
    if options.needs_task and window == inf:
        yield "a tool that needs_task has to be handed over; its hand_over is 'never'"
    if window is not None and limit is not None and limit <= window < inf:
        yield (
            f"hand_over after {window:g} s can never happen: the tool is stopped by its timeout "
            f"after {limit:g} s; write hand_over='never', or a longer timeout"
        )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < inf


def _announce_begin(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function such that it announces its beginning: questions before it are no part of
    the task.
    """

    @functools.wraps(fn)
    async def announced(*args: Any, **kwargs: Any) -> Any:
        _mark_function_begun()
        return await fn(*args, **kwargs)

    @functools.wraps(fn)
    def announced_sync(*args: Any, **kwargs: Any) -> Any:
        _mark_function_begun()
        return fn(*args, **kwargs)

    return announced if _is_async(fn) else announced_sync


def _mark_function_begun() -> None:
    run = current_run.get()
    if run is not None:
        run.mark_function_begun()


def _is_async(fn: Callable[..., Any]) -> bool:
    function = fn
    while hasattr(function, "func"):
        function = cast("Callable[..., Any]", getattr(function, "func"))  # noqa: B009 - a partial
    call = getattr(function, "__call__", None)  # noqa: B004 - its kind is asked, not callability
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)

"""Functions as tools: awaitables are awaited, and each value that a generator yields is a part.

The result is what the generator returns. If it returns nothing, as asynchronous ones always do, the
result is the list of all that it yielded: a client that ignores parts loses nothing. After a
restart in another process the list also has the parts of items that a `track` skipped.
A bare `yield` gives out nothing; a cancelled tool stops there.
"""

import functools
import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from contextlib import closing
from enum import Enum, auto
from types import NoneType
from typing import Any, Final, cast, get_args, get_origin

import anyio.to_thread

from headway.api.checkpointing import earlier_parts, has_skipped
from headway.api.output import part
from headway.api.tool_results import SETTLED, collect_values, is_lazy
from headway.engine import current_run

MOST_LAYERS: Final = 10
"""Awaitables and generators that are unwrapped one after the other."""


class Outcome(Enum):
    """The source of a generator's result."""

    RETURNED = auto()
    YIELDED = auto()
    EITHER = auto()
    """The signature does not say: the value that the generator returns, or if that is None those
    that it yielded."""


def as_tool(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls `fn`, and resolves what it returns to the final result.

    A sync generator becomes a sync function, everything else an async one: a sync function is
    called in a thread. An awaitable that comes back is awaited, and a generator is iterated: a
    plain decorator around an async function or a generator returns it as it is. The signature says
    the type of the result. However the call ends, a generator is closed: its `finally` runs.
    """
    inner = inspect.unwrap(_without_partials(fn))
    is_direct = any(_is_kind(test, fn) for test in _KINDS)
    signature = _signature_of(fn)
    given = inspect.Signature.empty if signature is None else signature.return_annotation
    declared, outcome = given, Outcome.EITHER
    if is_direct or any(_is_kind(test, inner) for test in _KINDS):
        declared, outcome = _result_type(given)
    elif (get_origin(given) or given) in _LAZY:
        declared, _ = _result_type(given)
    tool = _tool_of(fn, outcome)
    if declared is not given or is_direct:
        tool.__annotations__ = {**getattr(fn, "__annotations__", {}), "return": declared}
        if signature is not None:
            setattr(tool, "__signature__", signature.replace(return_annotation=declared))  # noqa: B010 - no function has it by itself
    return tool


def works_in_thread(fn: Callable[..., Any]) -> bool:
    """Return whether the work of a function is done in a thread, and not on the event loop.

    A sync decorator around an async function is called in a thread, but that takes no time.
    """
    inner = inspect.unwrap(_without_partials(fn))
    return not any(
        _is_kind(test, each)
        for test in (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
        for each in (fn, inner)
    )


def await_result(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return a resource's or a prompt's function such that an async one in a plain decorator is
    awaited.
    """
    inner = inspect.unwrap(_without_partials(fn))
    is_hidden = _is_kind(inspect.iscoroutinefunction, inner)
    if not is_hidden or _is_kind(inspect.iscoroutinefunction, fn):
        return fn

    @functools.wraps(fn)
    async def call(*args: Any, **kwargs: Any) -> Any:
        value = await anyio.to_thread.run_sync(functools.partial(fn, *args, **kwargs))
        return await value if inspect.isawaitable(value) else value

    return call


def _tool_of(fn: Callable[..., Any], outcome: Outcome) -> Callable[..., Any]:
    if _is_kind(inspect.isgeneratorfunction, fn):

        @functools.wraps(fn)
        def generate(*args: Any, **kwargs: Any) -> Any:
            return _go_through(fn(*args, **kwargs), outcome)

        return generate

    if _is_kind(inspect.isasyncgenfunction, fn):

        @functools.wraps(fn)
        async def generate_async(*args: Any, **kwargs: Any) -> Any:
            return await _go_through_async(fn(*args, **kwargs))

        return generate_async

    is_async = _is_kind(inspect.iscoroutinefunction, fn)

    @functools.wraps(fn)
    async def call(*args: Any, **kwargs: Any) -> Any:
        if is_async:
            value = await fn(*args, **kwargs)
        else:
            value = await anyio.to_thread.run_sync(functools.partial(fn, *args, **kwargs))
        return await _settle_value(value, outcome)

    return call


async def _settle_value(value: Any, outcome: Outcome) -> Any:
    """Return the final value: await and iterate what comes, as often as that is possible."""
    for _ in range(MOST_LAYERS):
        if type(value) in SETTLED:
            break
        if inspect.isawaitable(value):
            value = await value
        elif isinstance(value, AsyncIterator):
            return await _go_through_async(cast("AsyncIterator[object]", value))
        elif isinstance(value, Generator):
            generator = cast("Generator[object, None, object]", value)
            return await anyio.to_thread.run_sync(_go_through, generator, outcome)
        elif is_lazy(value):
            return await anyio.to_thread.run_sync(collect_values, value)
        else:
            break
    return value


def _go_through(generator: Generator[object, None, object], outcome: Outcome) -> Any:
    """Give out what a generator yields, and return its result; called in a thread."""
    given: list[object] = []
    with closing(generator):
        while True:
            try:
                value = next(generator)
            except StopIteration as end:
                returned: object = end.value
                break
            _give_out(value, given)
    if outcome is Outcome.RETURNED or (outcome is Outcome.EITHER and returned is not None):
        return returned
    return _all_parts(given)


async def _go_through_async(values: AsyncIterator[object]) -> Any:
    """Give out what an asynchronous generator yields, and return the list of it."""
    given: list[object] = []
    try:
        async for value in values:
            _give_out(value, given)
            run = current_run.get()
            if run is not None:
                await run.output.yield_if_due()
    finally:
        close = getattr(values, "aclose", None)
        if close is not None:
            await close()
    return _all_parts(given)


def _all_parts(given: list[object]) -> list[object]:
    """Return the values that the generator yielded, those before a restart first."""
    return [*earlier_parts(), *given] if has_skipped() else given


def _give_out(value: object, given: list[object]) -> None:
    if value is not None:
        part(value)
        given.append(value)
        return
    run = current_run.get()
    if run is not None:
        run.output.check_not_stopped()


_LAZY: Final = (AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator)
"""Return types of a plain function whose result is the list of the items."""

_KINDS: tuple[Callable[[object], bool], ...] = (
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
)


def _without_partials(fn: Any) -> Any:
    while isinstance(fn, functools.partial):
        fn = cast("Any", fn).func
    return fn


def _is_kind(test: Callable[[object], bool], fn: object) -> bool:
    fn = _without_partials(fn)
    return test(fn) or test(getattr(type(fn), "__call__", None))  # noqa: B004 - its kind is asked, not callability


def _signature_of(fn: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(fn, eval_str=True)
    except NameError:
        return None  # the SDK finds that too, and reports it


def _result_type(annotation: Any) -> tuple[Any, Outcome]:
    """Return the type and the source of the result of a generator function."""
    if annotation is inspect.Signature.empty:
        return annotation, Outcome.EITHER
    arguments = get_args(annotation)
    is_generator = get_origin(annotation) is Generator
    if is_generator and len(arguments) == 3 and arguments[2] not in (None, NoneType):
        return arguments[2], Outcome.RETURNED
    # Items that can be anything, even images, have no schema.
    is_typed = bool(arguments) and arguments[0] is not Any
    return (list[arguments[0]] if is_typed else list), Outcome.YIELDED

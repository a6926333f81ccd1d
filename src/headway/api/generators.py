"""Generator functions as tools: what they yield is a part at once.

The result is what the generator returns. One that returns nothing, as no asynchronous one can,
has as its result the list of all it yielded: a client that never looks at parts loses nothing.
Begun anew by another process, it also has what was yielded for the items that a `track` left out.
A bare `yield` gives out nothing; it is a place where a cancelled tool stops.
"""

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, closing
from enum import Enum, auto
from types import NoneType
from typing import Any, cast, get_args, get_origin

from headway.api.checkpoints import earlier_parts, has_skipped
from headway.api.output import part
from headway.engine import current_run


class Outcome(Enum):
    """What the result of a generator is."""

    RETURNED = auto()
    YIELDED = auto()
    EITHER = auto()
    """What it returns, or if that is None what it yielded: the signature does not say."""


def as_tool(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` as a function that gives out what it yields; as it is when it is no generator function.

    A sync generator becomes a sync function, an async one an async function; its signature says
    the type of the result. However the call ends, the generator is closed: its `finally` runs.
    """
    is_sync, is_async = (_is(test, fn) for test in _KINDS)
    if not is_sync and not is_async:
        return fn
    signature = _signature(fn)
    given = inspect.Signature.empty if signature is None else signature.return_annotation
    declared, outcome = _result(given)
    tool = _async_tool(fn) if is_async else _sync_tool(fn, outcome)
    tool.__annotations__ = {**getattr(fn, "__annotations__", {}), "return": declared}
    if signature is not None:
        setattr(tool, "__signature__", signature.replace(return_annotation=declared))  # noqa: B010 - no function has it by itself
    return tool


def _sync_tool(fn: Callable[..., Generator[object, None, object]], outcome: Outcome) -> Any:
    @functools.wraps(fn)
    def tool(*args: Any, **kwargs: Any) -> Any:
        given: list[object] = []
        with closing(fn(*args, **kwargs)) as generator:
            while True:
                try:
                    value = next(generator)
                except StopIteration as end:
                    returned: object = end.value
                    break
                _give_out(value, given)
        if outcome is Outcome.RETURNED or (outcome is Outcome.EITHER and returned is not None):
            return returned
        return _all(given)

    return tool


def _async_tool(fn: Callable[..., AsyncGenerator[object]]) -> Any:
    @functools.wraps(fn)
    async def tool(*args: Any, **kwargs: Any) -> Any:
        given: list[object] = []
        async with aclosing(fn(*args, **kwargs)) as generator:
            async for value in generator:
                _give_out(value, given)
                run = current_run.get()
                if run is not None:
                    await run.breathe()
        return _all(given)

    return tool


def _all(given: list[object]) -> list[object]:
    """What the generator yielded; behind what it did before a restart, where it left that out."""
    return [*earlier_parts(), *given] if has_skipped() else given


def _give_out(value: object, given: list[object]) -> None:
    if value is not None:
        part(value)
        given.append(value)
        return
    run = current_run.get()
    if run is not None:
        run.check()


_KINDS: tuple[Callable[[object], bool], ...] = (
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
)


def _is(test: Callable[[object], bool], fn: object) -> bool:
    while isinstance(fn, functools.partial):
        fn = cast("object", fn.func)
    return test(fn) or test(getattr(type(fn), "__call__", None))  # noqa: B004 - its kind is asked, not callability


def _signature(fn: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(fn, eval_str=True)
    except NameError:
        return None  # the SDK finds that too, and says so


def _result(annotation: Any) -> tuple[Any, Outcome]:
    """The type of the result, and what it is, of a generator function with this return type."""
    if annotation is inspect.Signature.empty:
        return annotation, Outcome.EITHER
    arguments = get_args(annotation)
    is_generator = get_origin(annotation) is Generator
    if is_generator and len(arguments) == 3 and arguments[2] not in (None, NoneType):
        return arguments[2], Outcome.RETURNED
    # Of items that can be anything, images among them, no schema can be given.
    is_typed = bool(arguments) and arguments[0] is not Any
    return (list[arguments[0]] if is_typed else list), Outcome.YIELDED

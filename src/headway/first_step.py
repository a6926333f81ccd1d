"""First steps of coroutines, taken at once and not in the next turn of the event loop.

Most calls end in that step, and most bodies are there in it. Then nothing was scheduled, nobody has
to be woken, and no timer was needed.
"""

import asyncio
import sys
from asyncio import AbstractEventLoop, Task
from collections.abc import Coroutine, Generator
from contextvars import Context
from typing import Any, Final, Generic, Self, TypeVar, cast

T = TypeVar("T")

_Steps = Coroutine[Any, Any, None]


_TAKEN: Final = object()


class FirstStep(Generic[T]):
    """The first step of what is awaited: it is over, with a result, or awaiting this goes on.

    It has to be awaited then, once, by the code that has made it.

    Raises:
        BaseException: Whatever the first step raises.
    """

    __slots__ = ("_first", "_steps", "is_over", "result")

    result: T
    """There when it is over."""

    def __init__(self, awaited: Coroutine[Any, Any, T]) -> None:
        self._steps: Any = awaited.__await__()
        self._first: Any = _TAKEN
        self.is_over = False
        try:
            self._first = self._steps.send(None)
        except StopIteration as end:
            self.result = end.value
            self.is_over = True

    def __await__(self) -> Generator[Any, Any, T]:
        """Wait for what the first step waits for, and take all others."""
        return cast("Generator[Any, Any, T]", self)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        """Hand the loop what the first step waits for, once; then take the next step."""
        first, self._first = self._first, _TAKEN
        return self._steps.send(value) if first is _TAKEN else first

    def throw(self, *error: Any) -> Any:
        """Raise an error, as a cancel, where it waits."""
        return self._steps.throw(*error)

    def close(self) -> None:
        """Give up."""
        self._steps.close()


class _NoLoop:
    """Stands in for the loop while a task is made, and does not schedule its first step."""

    def get_debug(self) -> bool:
        return False

    def call_soon(self, *_args: object, **_options: object) -> None:
        pass


_NO_LOOP: Final = cast("AbstractEventLoop", _NoLoop())


def start_at_once(work: _Steps, context: Context) -> Task[None]:
    """Begin `work` in a task of its own, and return it when `work` ends or waits first.

    `context` is the task's own, and may not be entered. The code that calls this may run in a task
    or in a callback of the loop.

    Raises:
        BaseException: `KeyboardInterrupt` or `SystemExit` of `work`, as from the loop itself.
    """
    make: Any = Task
    return make(work, loop=asyncio.get_running_loop(), context=context, eager_start=True)


if sys.version_info < (3, 12):
    # The tasks of 3.11 know no eager start. The one that is written in Python, which behaves as the
    # other does, can be stepped: 3.11 gets no more changes but for its security.
    _PyTask: Final[Any] = vars(asyncio.tasks)["_PyTask"]

    def start_at_once(work: _Steps, context: Context) -> Task[None]:
        """As above."""
        loop = asyncio.get_running_loop()
        task = _PyTask(work, loop=_NO_LOOP, context=context)
        task._loop = loop
        caller = asyncio.current_task(loop)
        if caller is not None:
            asyncio.tasks._leave_task(loop, caller)
        try:
            context.run(task._Task__step)
        finally:
            if caller is not None:
                asyncio.tasks._enter_task(loop, caller)
        return task

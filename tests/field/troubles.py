"""Everything that can come out of an author's code, by name, and servers that are full of it.

Also the target of real processes: `headway run tests/field/troubles.py:mcp`.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Never

import anyio
from mcp.server.mcpserver.exceptions import ToolError

from headway import Headway, report


class Sick(BaseException):
    """No `Exception`, as of libraries that want to get past every `except Exception`."""


class Unprintable(BaseException):
    def __str__(self) -> str:
        raise ValueError("there is no text")

    __repr__ = __str__


def parse_options() -> None:
    parser = argparse.ArgumentParser("convert")
    parser.add_argument("--size", type=int)
    parser.parse_args(["--size", "big"])


def leave() -> None:
    sys.exit(2)


def leave_with_text() -> None:
    sys.exit("the licence file of customer 7 is missing")


def interrupt() -> None:
    raise KeyboardInterrupt


def close() -> None:
    raise GeneratorExit


def fall_sick() -> None:
    raise Sick("of customer 7")


def fail_without_text() -> None:
    raise Unprintable


def cancel() -> None:
    raise asyncio.CancelledError


def fail_together() -> None:
    raise BaseExceptionGroup("all", [SystemExit(3), ValueError("customer 7"), Sick()])


def fail_deep() -> None:
    raise BaseExceptionGroup("a", [BaseExceptionGroup("b", [asyncio.CancelledError(), Sick()])])


def fail_too_deep() -> None:
    error: Any = SystemExit(4)
    for _ in range(2000):
        error = BaseExceptionGroup("one more", [error])
    raise error


ANYWHERE: dict[str, tuple[Callable[[], None], str]] = {
    "leave": (leave, "ended with SystemExit(2)"),
    "leave_with_text": (leave_with_text, "ended with SystemExit (reference"),
    "parse_options": (parse_options, "ended with SystemExit(2)"),
    "interrupt": (interrupt, "ended with KeyboardInterrupt"),
    "close": (close, "ended with GeneratorExit"),
    "fall_sick": (fall_sick, "ended with Sick"),
    "fail_without_text": (fail_without_text, "ended with Unprintable"),
    "cancel": (cancel, "ended with CancelledError, and nobody had asked for a cancel"),
    "fail_together": (fail_together, "ended with SystemExit(3), ValueError, Sick in its tasks"),
    "fail_too_deep": (fail_too_deep, "ended with SystemExit(4) in one of its tasks"),
    "fail_deep": (fail_deep, "ended with Sick in one of its tasks"),
}
"""What may happen in a thread as well as on the event loop, and the words for the caller."""


async def await_what_was_cancelled() -> None:
    task = asyncio.create_task(asyncio.sleep(60))
    await asyncio.sleep(0)
    task.cancel()
    await task


async def cancel_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(60)


async def leave_a_cancelled_scope() -> None:
    scope = anyio.CancelScope()
    scope.__enter__()
    scope.cancel()
    await anyio.sleep(60)


async def fail_in_a_task_group() -> None:
    async def fail(after: float) -> Never:
        await asyncio.sleep(after)
        raise Sick

    async with anyio.create_task_group() as group:
        group.start_soon(fail, 0)
        group.start_soon(asyncio.sleep, 60)


ON_THE_LOOP: dict[str, tuple[Callable[[], Awaitable[None]], str]] = {
    "await_what_was_cancelled": (await_what_was_cancelled, "nobody had asked for a cancel"),
    "cancel_itself": (cancel_itself, "nobody had asked for a cancel"),
    "leave_a_cancelled_scope": (leave_a_cancelled_scope, "nobody had asked for a cancel"),
    "fail_in_a_task_group": (fail_in_a_task_group, "ended with Sick in one of its tasks"),
}

WORDS = {name: words for name, (_, words) in (ANYWHERE | ON_THE_LOOP).items()}


async def fail(trouble: str) -> None:
    if trouble in ANYWHERE:
        ANYWHERE[trouble][0]()
    await ON_THE_LOOP[trouble][0]()


class Patient:
    """A call that waits until it is let go."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go = asyncio.Event()


def server_of(kind: Callable[[str], Any], patient: Patient | None = None) -> Any:
    """A server with a tool for all of them, and one that only waits."""
    server: Any = kind("troubles")
    patient = patient or Patient()

    @server.tool(name="fail")
    async def fail_on_the_loop(trouble: str) -> str:
        await fail(trouble)
        return "no trouble"

    @server.tool()
    def fail_in_a_thread(trouble: str) -> str:
        ANYWHERE[trouble][0]()
        return "no trouble"

    @server.tool()
    async def wait() -> str:
        report(1, 2)
        patient.begun.set()
        await patient.go.wait()
        return "done"

    return server


# For processes: what ends or stops an event loop unless somebody sees to it.

mcp = server_of(Headway)


async def _leave_later() -> None:
    await asyncio.sleep(0)
    sys.exit(5)


@mcp.tool()
async def leave_in_a_task() -> str:
    """Exit in a task that is waited for."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_leave_later())
    return "no trouble"


@mcp.tool()
async def leave_in_a_task_of_its_own() -> str:
    """Exit in a task that nobody waits for."""
    task = asyncio.create_task(_leave_later())
    await asyncio.wait([task])
    return "on its way"


@mcp.tool()
async def leave_in_a_callback() -> str:
    """Exit in a callback of the loop."""
    asyncio.get_running_loop().call_soon(sys.exit, 6)
    await asyncio.sleep(0.01)
    return "on its way"


@mcp.tool()
async def stop_the_loop() -> str:
    """Stop the event loop itself."""
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.01)
    return "on its way"


@mcp.tool()
async def fail_deliberately() -> str:
    """Raise what an author raises for the model to read."""
    raise ToolError("there is no such city")


@mcp.tool()
async def hold(seconds: float) -> str:
    """Hold the event loop."""
    report(1, 2)
    await asyncio.sleep(0.1)
    time.sleep(seconds)  # noqa: ASYNC251 - that is the trouble
    return "let go"

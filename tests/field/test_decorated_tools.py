"""A plain decorator around a function changes nothing of what it is as a tool."""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any

import pytest
from tests.kit.peers import Modern, served
from tests.kit.waits import within

from headway import Headway, part
from headway.testing import run_tool

pytestmark = pytest.mark.anyio


def logged(fn: Callable[..., Any]) -> Any:
    """As authors write it: `functools.wraps` around a `def`."""

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return wrapper


def logged_async(fn: Callable[..., Any]) -> Any:
    """One that is async itself, around whatever it is."""

    @functools.wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return wrapper


def run_by_itself(fn: Callable[..., Any]) -> Any:
    """One that makes a sync function of an async one."""

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(fn(*args, **kwargs))

    return wrapper


async def ask(question: str) -> str:
    await asyncio.sleep(0)
    return f"answer to {question}"


def ask_in_thread(question: str) -> str:
    assert threading.current_thread() is not threading.main_thread()
    return f"answer to {question}"


def numbers(upto: int) -> Iterator[int]:
    yield from range(upto)


async def numbers_async(upto: int) -> AsyncIterator[int]:
    for number in range(upto):
        yield number


def counted(upto: int) -> Generator[int, None, str]:
    yield from range(upto)
    return f"counted to {upto}"


async def tool(fn: Any) -> dict[str, Any]:
    mcp = Headway()
    mcp.tool("it")(fn)
    (found,) = await mcp.list_tools()
    outcome = await run_tool(mcp, "it", {found.input_schema["required"][0]: 3})
    assert outcome.error is None, outcome.error
    shape = (found.output_schema or {}).get("properties", {}).get("result", {}).get("type")
    return {"result": outcome.result, "parts": outcome.parts, "type": shape}


ANSWER = {"result": "answer to 3", "parts": [], "type": "string"}
NUMBERS = {"result": [0, 1, 2], "parts": [0, 1, 2], "type": "array"}
COUNTED = {"result": "counted to 3", "parts": [0, 1, 2], "type": "string"}

ALIKE = [
    (ask, ANSWER),
    (ask_in_thread, ANSWER),
    (numbers, NUMBERS),
    (numbers_async, NUMBERS),
    (counted, COUNTED),
]


async def asked(fn: Any) -> dict[str, Any]:
    """As `tool`, with a text for what takes one."""
    if fn.__name__.startswith("ask"):
        mcp = Headway()
        mcp.tool("it")(fn)
        (found,) = await mcp.list_tools()
        outcome = await run_tool(mcp, "it", {"question": "3"})
        shape = (found.output_schema or {})["properties"]["result"]["type"]
        return {"result": outcome.result, "parts": outcome.parts, "type": shape}
    return await tool(fn)


@pytest.mark.parametrize(("fn", "expected"), ALIKE)
async def test_without_a_decorator(fn: Any, expected: dict[str, Any]):
    assert await asked(fn) == expected


@pytest.mark.parametrize(("fn", "expected"), ALIKE)
async def test_in_a_plain_decorator(fn: Any, expected: dict[str, Any]):
    assert await asked(logged(fn)) == expected


@pytest.mark.parametrize(("fn", "expected"), ALIKE)
async def test_in_several(fn: Any, expected: dict[str, Any]):
    assert await asked(logged(logged(fn))) == expected


@pytest.mark.parametrize(("fn", "expected"), [(ask, ANSWER), (numbers, NUMBERS)])
async def test_in_an_async_decorator(fn: Any, expected: dict[str, Any]):
    assert await asked(logged_async(fn)) == expected


async def test_one_that_runs_it_itself_may_go_on_doing_so():
    assert await asked(run_by_itself(ask)) == ANSWER


async def test_a_function_that_gives_back_something_to_await():
    def later(question: str) -> Awaitable[str]:
        return ask(question)

    mcp = Headway()
    mcp.tool(structured_output=False)(later)
    outcome = await run_tool(mcp, "later", {"question": "3"})
    assert outcome.result == "answer to 3"


async def test_a_tool_that_is_stopped_closes_the_generator_in_its_decorator():
    closed: list[str] = []
    begun = asyncio.Event()
    mcp = Headway()

    @mcp.tool(timeout=5)
    @logged
    async def forever() -> AsyncIterator[int]:
        try:
            yield 1
            begun.set()
            await asyncio.Event().wait()
        finally:
            closed.append("closed")

    async with served(mcp) as wire:
        client = Modern(wire)
        call = asyncio.create_task(client.call("forever"))
        await within(begun.wait())
        await wire.clock.advance(5)
        outcome = await (await within(call)).outcome()
        assert "did not finish within its limit" in outcome["error"]["message"]
    assert closed == ["closed"]


async def test_a_decorated_async_tool_takes_no_place_of_a_thread():
    mcp = Headway()
    mcp.tool("decorated")(logged(ask))
    mcp.tool("sync")(logged(ask_in_thread))
    assert mcp.tool_options["decorated"].threaded is False
    assert mcp.tool_options["sync"].threaded is True


async def test_resources_and_prompts_are_awaited_as_well():
    mcp = Headway()

    @mcp.resource("note://one")
    @logged
    async def note() -> str:
        return "a note"

    @mcp.resource("note://{name}/long")
    @logged
    async def notes(name: str) -> str:
        return f"a note on {name}"

    @mcp.prompt()
    @logged
    async def greet(name: str) -> str:
        return f"Hello {name}"

    async with served(mcp) as wire:
        client = Modern(wire)

        async def read(uri: str) -> str:
            outcome = await (await client.request("resources/read", {"uri": uri})).outcome()
            return outcome["result"]["contents"][0]["text"]

        assert await read("note://one") == "a note"
        assert await read("note://two/long") == "a note on two"
        asked = {"name": "greet", "arguments": {"name": "you"}}
        outcome = await (await client.request("prompts/get", asked)).outcome()
        assert outcome["result"]["messages"][0]["content"]["text"] == "Hello you"


async def test_what_is_said_in_a_decorated_tool_is_heard():
    mcp = Headway()

    @mcp.tool()
    @logged
    async def say() -> None:
        part("said")

    assert (await run_tool(mcp, "say")).parts == ["said"]

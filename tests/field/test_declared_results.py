"""What a tool declares it returns: its clients find every result valid, or the server says why."""

import asyncio
import base64
import math
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.tools import Tool
from mcp_types import CallToolResult, TextContent
from pydantic import BaseModel, ConfigDict, Field, RootModel, computed_field
from tests.kit.peers import Modern, connect, each_era, served

from headway import Headway, part
from headway.testing import run_tool

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

PNG = b"\x89PNG\xff"
PNG_JSON = base64.b64encode(PNG).decode()


class Scalar:
    """As a `numpy.int64` is: no number of Python's, with the way to one."""

    def __init__(self, value: object) -> None:
        self.value = value

    def tolist(self) -> object:
        return self.value


class Reading(BaseModel):
    count: Annotated[int, Field(ge=0)] = 0
    mean: float = 1.0
    finite: Annotated[float, Field(allow_inf_nan=False)] = 1.0


class Renamed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int = Field(default=1, validation_alias="in", serialization_alias="out")

    @computed_field
    @property
    def twice(self) -> int:
        return self.size * 2


class Rows(RootModel[list[int]]):
    pass


@dataclass
class Point:
    x: int
    y: float = 0.0


def changed(**values: object) -> Reading:
    """A model that its author changed behind pydantic's back."""
    reading = Reading()
    for name, value in values.items():
        setattr(reading, name, value)
    return reading


FITS: dict[str, tuple[Any, Callable[[], object], object]] = {
    "an iterator for a list": (list[int], lambda: map(int, "12"), {"result": [1, 2]}),
    "a generator for an iterable": (Iterable[int], lambda: (n for n in (1, 2)), {"result": [1, 2]}),
    "a generator for an iterator": (Iterator[int], lambda: (n for n in (1, 2)), {"result": [1, 2]}),
    "an array for a list": (list[int], lambda: Scalar([1, 2]), {"result": [1, 2]}),
    "scalars for floats": (dict[str, float], lambda: {"a": Scalar(1.5)}, {"a": 1.5}),
    "NaN for a float": (dict[str, float], lambda: {"a": math.nan}, {"a": None}),
    "infinity for a float": (float, lambda: math.inf, {"result": None}),
    "bytes": (bytes, lambda: PNG, {"result": PNG_JSON}),
    "a surrogate in a short text": (
        Annotated[str, Field(max_length=9)], lambda: "\ud800", {"result": "\ufffd"},
    ),
    "a dataclass of scalars": (
        Point, lambda: Point(Scalar(3), Scalar(math.nan)), {"x": 3, "y": None},  # pyright: ignore[reportArgumentType]
    ),
    "a dict for a model": (Reading, lambda: {"count": 3}, {"count": 3, "mean": 1.0, "finite": 1.0}),
    "aliases and computed fields": (
        Renamed, lambda: Renamed.model_validate({"in": 2}), {"out": 2, "twice": 4},
    ),
    "a model that is a list": (Rows, lambda: Rows([1]), {"result": [1]}),
    "a result of its own": (
        CallToolResult,
        lambda: CallToolResult(
            content=[TextContent(text="\ud800")], structured_content={"a": PNG, "n": Scalar(1)}
        ),
        {"a": PNG_JSON, "n": 1},
    ),
}  # fmt: skip


def server_of(returns: Any, make: Callable[[], object]) -> Headway:
    mcp = Headway("declared")

    def get() -> Any:
        return make()

    get.__annotations__["return"] = returns
    mcp.tool()(get)
    return mcp


@each_era
@pytest.mark.parametrize("name", FITS)
async def test_a_client_finds_a_result_valid_by_the_schema_that_it_was_given(
    name: str, era: str
) -> None:
    from jsonschema import validate

    returns, make, expected = FITS[name]
    async with served(server_of(returns, make)) as wire:
        client = await connect(wire, era)
        listed = await (await client.request("tools/list")).outcome()
        result = (await (await client.call("get")).outcome())["result"]
    assert result["structuredContent"] == expected
    schema = listed["result"]["tools"][0].get("outputSchema", {})
    assert not schema or schema["type"] == "object"
    validate(result["structuredContent"], schema)


@each_era
@pytest.mark.parametrize(
    ("returns", "make", "place"),
    [
        (Reading, lambda: changed(count=-1), "count: -1 is less than"),
        (Reading, lambda: changed(count=None), "count: None is not of type"),
        (Reading, lambda: changed(finite=math.nan), "finite: None is not of type"),
        (Reading, lambda: {"count": -3}, "count: "),
        (list[Point], lambda: [Point(1), Point("x")], "result.1.x: "),  # pyright: ignore[reportArgumentType]
        (list[int], lambda: None, "result: "),
        (Literal["a", "b"], lambda: "c", "result: "),
        (
            Annotated[CallToolResult, Reading],
            lambda: CallToolResult(content=[], structured_content={"count": -1}),
            "count: ",
        ),
    ],
)
async def test_a_result_that_its_own_schema_refuses_is_a_tool_error_of_the_server(
    returns: Any, make: Callable[[], object], place: str, era: str
) -> None:
    async with served(server_of(returns, make)) as wire:
        result = (await (await (await connect(wire, era)).call("get")).outcome())["result"]
    assert result["isError"] is True
    assert "structuredContent" not in result
    assert (
        f"the work is done, but its result does not fit the tool's output schema: {place}"
        in (result["content"][0]["text"])
    )


async def test_an_iterator_is_gone_through_in_the_thread_of_its_tool() -> None:
    mcp = Headway("lazy")

    @mcp.tool()
    def lazy() -> list[bool]:
        def has_loop(_n: int) -> bool:
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                return False
            return True

        return map(has_loop, range(2))  # pyright: ignore[reportReturnType]

    assert (await run_tool(mcp, "lazy")).result == [False, False]


async def test_an_async_iterator_is_a_list() -> None:
    mcp = Headway("lazy")

    @mcp.tool()
    async def lazy() -> AsyncIterator[int]:
        async def numbers() -> AsyncIterator[int]:
            yield 1
            yield 2

        return numbers()

    assert (await run_tool(mcp, "lazy")).result == [1, 2]


async def test_an_iterator_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from itertools import count

    monkeypatch.setattr("headway.encoding.MOST_ITEMS", 1000)
    mcp = Headway("endless")

    @mcp.tool()
    def endless() -> str:
        part(count())
        return "never"

    outcome = await run_tool(mcp, "endless", raise_on_error=False)
    assert outcome.is_error


OWN = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"name": {"type": "string"}},
    "properties": {"name": {"$ref": "#/$defs/name"}},
    "anyOf": [{"required": ["name"]}, {}],
}


@pytest.mark.parametrize("extra", [{}, {"additionalProperties": False}])
async def test_schemas_that_the_author_wrote_are_listed_and_hold_as_they_are(
    extra: dict[str, Any],
) -> None:
    def greet(name: str = "") -> dict[str, Any]:
        return {"name": name} if name else {"name": 3}

    tool = Tool.from_function(greet).model_copy(update={"parameters": {**OWN, **extra}})
    tool.fn_metadata.output_schema = OWN
    async with served(Headway("own", tools=[tool])) as wire:
        client = Modern(wire)
        listed = await (await client.request("tools/list", {})).outcome()
        (described,) = listed["result"]["tools"]
        assert described["inputSchema"] == {**OWN, **extra}
        assert described["outputSchema"] == OWN
        done = (await (await client.call("greet", {"name": "Ada"})).outcome())["result"]
        assert done["structuredContent"] == {"name": "Ada"}
        refused = (await (await client.call("greet", {"name": ""})).outcome())["result"]
        assert "does not fit the tool's output schema: name" in refused["content"][0]["text"]
        unknown = (await (await client.call("greet", {"nam": "Ada"})).outcome())["result"]
        assert ("no argument 'nam'" in unknown["content"][0]["text"]) is bool(extra)


async def test_a_server_of_the_sdk_has_its_own_schemas_and_results() -> None:
    mcp = MCPServer("theirs")

    @mcp.tool()
    def mean() -> dict[str, float]:
        return {"mean": 1.0}

    (tool,) = await mcp.list_tools()
    assert tool.output_schema is not None
    assert tool.output_schema["additionalProperties"] == {"type": "number"}
    assert (await run_tool(mcp, "mean")).structured == {"mean": 1.0}

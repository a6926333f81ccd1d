"""One rule for all that a tool says: what a part takes, logs, checkpoints and results take."""

import asyncio
import base64
import ipaddress
import math
import sqlite3
from array import array
from collections import ChainMap, UserDict, UserList, UserString, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import CallToolResult, TextContent
from pydantic import BaseModel, ConfigDict, Field, RootModel, computed_field, field_serializer
from tests.kit.peers import Session, connect, each_era, served

from headway import Headway, checkpoint, last_checkpoint, log, part, report, stage
from headway.testing import run_tool

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

PNG = b"\x89PNG\xff"
PNG_JSON = base64.b64encode(PNG).decode()


class Text(str):
    """As `markupsafe.Markup` and `numpy.str_` are."""


class Whole(int):
    pass


class Number(float):
    """As `numpy.float64` is."""


class Moment(datetime):
    """As `pandas.Timestamp` is."""


class Scalar:
    """As a `numpy.int64` is: no number of Python's, with the way to one."""

    def __init__(self, value: object) -> None:
        self.value = value

    def tolist(self) -> object:
        return self.value


class Colour(Enum):
    RED = (1, 2)


class Named:
    def __str__(self) -> str:
        return "a name of its own"


class Photo(BaseModel):
    data: bytes = PNG
    more: Any = None


class Readable(BaseModel):
    data: bytes = b"abc"
    size: int = 5

    @field_serializer("size", when_used="json")
    def sized(self, size: int) -> str:
        return f"{size} MB"


class Said(BaseModel):
    model_config = ConfigDict(ser_json_bytes="utf8")
    data: bytes = b"abc"


@dataclass
class Row:
    size: int
    inner: object = None


def row_of_sqlite() -> sqlite3.Row:
    database = sqlite3.connect(":memory:")
    database.row_factory = sqlite3.Row
    try:
        return database.execute("select 1 a, 'x' b").fetchone()
    finally:
        database.close()


ZOO: dict[str, tuple[Callable[[], object], object]] = {
    "bytes": (lambda: {"avatar": PNG}, {"avatar": PNG_JSON}),
    "a bytearray": (lambda: bytearray(PNG), PNG_JSON),
    "a lone surrogate": (lambda: {"caf\udce9": ["\udce9"]}, {"caf\ufffd": ["\ufffd"]}),
    "NaN": (lambda: [math.nan, math.inf, -math.inf], [None, None, None]),
    "a NaN of a subclass": (lambda: Number("nan"), None),
    "a subclass of str": (lambda: {Text("k"): Text("v")}, {"k": "v"}),
    "a subclass of int": (lambda: [Whole(5)], [5]),
    "a subclass of float": (lambda: [Number(1.5)], [1.5]),
    "a subclass of datetime": (
        lambda: Moment(2026, 1, 2, 3, tzinfo=UTC),
        "2026-01-02T03:00:00Z",
    ),
    "a scalar of a library": (lambda: {"n": [Scalar(3)]}, {"n": [3]}),
    "an array of a library": (lambda: Scalar([1, 2]), [1, 2]),
    "an iterator": (lambda: {"ids": map(int, "12")}, {"ids": [1, 2]}),
    "an iterator of surrogates": (lambda: {"names": iter(["\ud800", "b"])}, {"names": ["�", "b"]}),
    "dict views": (lambda: [{"a": 1}.keys(), {"a": 1}.values()], [["a"], [1]]),
    "items of a dict": (lambda: {"a": 1}.items(), [["a", 1]]),
    "a deque": (lambda: deque([1]), [1]),
    "a range": (lambda: range(3), [0, 1, 2]),
    "an array": (lambda: array("i", [1]), [1]),
    "a set": (lambda: {"a"}, ["a"]),
    "a ChainMap": (lambda: ChainMap({"a": 1}), {"a": 1}),
    "user collections": (
        lambda: [UserDict(a=1), UserList([1]), UserString("x")],
        [{"a": 1}, [1], "x"],
    ),
    "a row of a database": (row_of_sqlite, {"a": 1, "b": "x"}),
    "odd keys": (
        lambda: {True: 1, None: 2, 1.5: 3, date(2026, 1, 1): 4},
        {"true": 1, "None": 2, "1.5": 3, "2026-01-01": 4},
    ),
    "dates": (lambda: [date(2026, 1, 1), timedelta(seconds=5)], ["2026-01-01", "PT5S"]),
    "exact numbers": (lambda: [Decimal("1.50"), Fraction(1, 3)], ["1.50", "1/3"]),
    "an enum": (lambda: Colour.RED, [1, 2]),
    "names of things": (
        lambda: [UUID(int=1), Path("/a"), ipaddress.ip_address("::1")],
        ["00000000-0000-0000-0000-000000000001", "/a", "::1"],
    ),
    "an object with a text": (lambda: [Named(), ValueError("x")], ["a name of its own", "x"]),
    "a model with bytes": (lambda: Photo(more=Scalar(2)), {"data": PNG_JSON, "more": 2}),
    "a model with bytes that are text": (lambda: Readable(), {"data": "YWJj", "size": "5 MB"}),
    "a model that says how": (lambda: Said(), {"data": "abc"}),
    "a dataclass": (lambda: Row(1, Scalar(2)), {"size": 1, "inner": 2}),
}  # fmt: skip


@pytest.mark.parametrize("name", ZOO)
async def test_a_value_is_the_same_json_wherever_a_tool_says_it(name: str) -> None:
    make, expected = ZOO[name]
    mcp = Headway("zoo")

    @mcp.tool(restart=True)
    async def say(context: Context[Any, Any]) -> list[Any]:
        part(make())
        log(make())
        await context.info(make())
        checkpoint(make())
        return [make(), last_checkpoint()]

    @mcp.tool()
    def bare() -> Any:
        return [make()]

    @mcp.tool()
    def in_a_dict() -> dict[str, Any]:
        return {"value": make()}

    said = await run_tool(mcp, "say")
    assert said.error is None
    assert said.parts == [expected]
    assert [entry.data for entry in said.logs] == [expected, expected]
    assert said.result[0] == expected
    assert (await run_tool(mcp, "in_a_dict")).structured == {"value": expected}
    assert (await run_tool(mcp, "bare")).error is None


class Odd:
    pass


class Raising(BaseModel):
    size: int = 1

    @field_serializer("size")
    def sized(self, size: int) -> str:
        raise ValueError("a secret of the server")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: {"rows": [1, {"owner": Odd()}]}, ("a Odd", "rows[1].owner")),
        (lambda: Row(1, [Odd()]), ("a Odd", "inner[0]")),
        (lambda: {"rows": {(1, 2): 3}}, ("a tuple cannot be a key", "rows")),
        (lambda: {"n": 10**5000}, ("digits", "at n")),
        (lambda: {"f": lambda: 1}, ("a function", "at f")),
    ],
    ids=["an object", "in a dataclass", "a key", "a number", "a function"],
)
async def test_what_json_cannot_hold_is_refused_everywhere_with_its_place(
    make: Callable[[], object], words: tuple[str, ...]
) -> None:
    mcp = Headway("odd")

    @mcp.tool()
    def result() -> Any:
        return make()

    @mcp.tool()
    def said() -> list[str]:
        log(make())  # a log message never fails for what it is about
        refusals: list[str] = []
        for take in (part, checkpoint):
            try:
                take(make())
            except TypeError as error:
                refusals.append(str(error))
        return refusals

    failed = await run_tool(mcp, "result")
    told = [failed.error or "", *(await run_tool(mcp, "said")).result]
    assert len(told) == 3
    for text in told:
        assert all(word in text for word in words), text


async def test_a_log_message_is_sent_even_when_its_data_raises() -> None:
    class Sour:
        def __iter__(self) -> Iterator[int]:
            raise RuntimeError("no")

        def __str__(self) -> str:
            raise RuntimeError("no")

    mcp = Headway("sour")

    @mcp.tool()
    def say() -> int:
        log({"it": Sour()})
        log(Raising())
        return 1

    outcome = await run_tool(mcp, "say")
    assert outcome.result == 1
    assert outcome.logs[0].data == {"it": "<" + Sour.__qualname__ + ">"}


async def test_what_an_authors_serializer_says_is_not_for_the_client() -> None:
    mcp = Headway("raising")

    @mcp.tool()
    def say() -> Raising:
        return Raising()

    outcome = await run_tool(mcp, "say")
    assert outcome.is_error
    assert "secret" not in (outcome.error or "")


# What a tool declares


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

    outcome = await run_tool(mcp, "endless")
    assert outcome.is_error


async def test_a_server_of_the_sdk_has_its_own_schemas_and_results() -> None:
    mcp = MCPServer("theirs")

    @mcp.tool()
    def mean() -> dict[str, float]:
        return {"mean": 1.0}

    (tool,) = await mcp.list_tools()
    assert tool.output_schema is not None
    assert tool.output_schema["additionalProperties"] == {"type": "number"}
    assert (await run_tool(mcp, "mean")).structured == {"mean": 1.0}


# Texts


@each_era
async def test_lone_surrogates_reach_nobody_wherever_a_text_goes_out(era: str) -> None:
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp.shared.exceptions import MCPError

    mcp = Headway("names \ud800", instructions="read \ud800")

    @mcp.tool(title="A \ud800", description="Says \ud800.")
    async def say() -> str:
        report(1, 2, "at \ud800")
        with stage("in \ud800"):
            log({"name": "\ud800"}, logger="log \ud800")
        raise ToolError("failed at \ud800")

    @mcp.tool()
    async def refuse() -> str:
        raise MCPError(-32602, "not \ud800", {"file": "\ud800"})

    async with served(mcp) as wire:
        client = await connect(wire, era)
        told: list[object] = [client.handshake] if isinstance(client, Session) else []
        told.append(await (await client.request("tools/list")).outcome())
        if isinstance(client, Session):
            message = client.call_message("say", token=1)
        else:
            message = client.call_message("say", token=1, level="info")
        told += await (await client.post(message)).rest()
        told.append(await (await client.call("refuse")).outcome())
    shown = str(told)
    assert "failed at \ufffd" in shown
    assert "not \ufffd" in shown
    assert "at \ufffd" in shown
    assert "Says \ufffd." in shown


async def test_numbers_and_texts_of_libraries_are_progress() -> None:
    mcp = Headway("progress")

    class Own(float):
        pass

    @mcp.tool()
    def work() -> int:
        report(Own(1), Decimal(4), Text("first"))  # pyright: ignore[reportArgumentType]
        log("said", Text("warning"), logger=Text("mine"))
        report(Whole(2), Number(4), Text("second"))
        return 1

    outcome = await run_tool(mcp, "work")
    assert outcome.progress[:2] == [(1, 4, "first"), (2, 4, "second")]
    assert outcome.logs == [("warning", "said", "mine")]
    assert all(type(each.message) is str for each in outcome.progress if each.message)

"""One rule for all that a tool says: what a part takes, logs, checkpoints and results take."""

import base64
import ipaddress
import math
import sqlite3
from array import array
from collections import ChainMap, UserDict, UserList, UserString, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from mcp.server.mcpserver import Context
from pydantic import BaseModel, ConfigDict, field_serializer
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

    failed = await run_tool(mcp, "result", raise_on_error=False)
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

    outcome = await run_tool(mcp, "say", raise_on_error=False)
    assert outcome.is_error
    assert "secret" not in (outcome.error or "")


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

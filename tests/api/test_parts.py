"""Incremental results of every kind: what is in the journal and what a client gets."""

import base64
import threading
from collections import Counter
from collections.abc import Mapping
from contextvars import copy_context
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

import fastmcp.utilities.types
import msgspec
import pytest
from mcp.server.mcpserver import Audio, Image
from mcp_types import (
    BlobResourceContents,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
)
from pydantic import BaseModel, Field, TypeAdapter
from tests.kit.waits import PATIENCE

from headway import Headway, log, part
from headway.testing import record, run_tool

pytestmark = pytest.mark.anyio

PIXEL = b"\x89PNG"
PIXEL_JSON = {"type": "image", "data": base64.b64encode(PIXEL).decode(), "mimeType": "image/png"}


class Model(BaseModel):
    file_name: str = Field(alias="fileName")
    note: str | None = None


@dataclass
class Data:
    size: int
    inner: object = None


class Record(msgspec.Struct):
    size: int


MODEL = Model(fileName="a.txt")
MODEL_JSON = {"fileName": "a.txt", "note": None}

PARTS: list[tuple[object, object]] = [
    ("text", "text"),
    (None, None),
    (10**30, 10**30),
    ({"deep": [1, {"er": (2.5, True)}]}, {"deep": [1, {"er": [2.5, True]}]}),
    ({1: "one"}, {"1": "one"}),
    (Data(1, MODEL), {"size": 1, "inner": MODEL_JSON}),
    (Record(2), {"size": 2}),
    (MODEL, MODEL_JSON),
    ([MODEL, {"it": MODEL}], [MODEL_JSON, {"it": MODEL_JSON}]),
    (Counter("aab"), {"a": 2, "b": 1}),
    (MappingProxyType({"a": 1}), {"a": 1}),
    (Path("/srv/a.txt"), "/srv/a.txt"),
    (date(2026, 7, 28), "2026-07-28"),
    (b"abc", "YWJj"),
    (float("nan"), None),
    ("a\ud800", "a\ufffd"),
    (Data(1, "a\ud800"), {"size": 1, "inner": "a\ufffd"}),
    ([Model(fileName="a\ud800")], [{"fileName": "a\ufffd", "note": None}]),
    ((item for item in "ab"), ["a", "b"]),
    (ValueError("x"), "x"),
    (1j, "1j"),
]

BLOCKS: list[tuple[object, dict[str, Any]]] = [
    (TextContent(type="text", text="hi"), {"type": "text", "text": "hi"}),
    (Image(data=PIXEL, format="png"), PIXEL_JSON),
    (ImageContent.model_validate(PIXEL_JSON), PIXEL_JSON),
    (fastmcp.utilities.types.Image(data=PIXEL, format="png"), PIXEL_JSON),
    (
        Audio(data=b"RIFF", format="wav"),
        {"type": "audio", "data": "UklGRg==", "mimeType": "audio/wav"},
    ),
    (
        ResourceLink(type="resource_link", name="log", uri="file:///srv/log"),
        {"type": "resource_link", "name": "log", "uri": "file:///srv/log"},
    ),
    (
        EmbeddedResource(
            type="resource", resource=BlobResourceContents(uri="x://y", blob="AA==")
        ),
        {"type": "resource", "resource": {"uri": "x://y", "blob": "AA=="}},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), PARTS, ids=lambda value: type(value).__name__)
def test_a_part_is_what_json_has_for_its_value(value: object, expected: object) -> None:
    with record() as said:
        part(value)
    assert said.parts == [expected]


@pytest.mark.parametrize(("value", "expected"), BLOCKS, ids=lambda value: type(value).__name__)
def test_a_block_of_content_is_a_part_in_the_form_that_mcp_has_in_json(
    value: object, expected: dict[str, Any]
) -> None:
    with record() as said:
        part(value)
        part({"thumbnail": value})
    assert said.parts == [expected, {"thumbnail": expected}]
    # A client can read it back as what it was.
    block: Any = TypeAdapter[Any](ContentBlock).validate_python(said.parts[0])
    assert block.type == expected["type"]


class Odd:
    pass


def endless() -> list[object]:
    found: list[object] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    ("value", "culprit"),
    [
        (Odd(), "Odd"),
        ({"a": [Odd()]}, "Odd"),
        (Data(1, Odd()), "Odd"),
        (Model.model_construct(file_name=Odd()), "Odd"),
        (Odd, "type"),
        (lambda: 1, "function"),
        ({(1, 2): 3}, "dict"),
        (endless(), "contains itself"),
        (["a\ud800", Odd()], "Odd"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)  # fmt: skip
def test_what_json_cannot_hold_is_a_type_error_that_says_what_to_do(
    value: object, culprit: str
) -> None:
    with record() as said, pytest.raises(TypeError) as refused:
        part(value)
    assert culprit in str(refused.value)
    assert "give it text, numbers" in str(refused.value)
    assert said.parts == []


def test_what_an_image_raises_reaches_the_author() -> None:
    with record(), pytest.raises(FileNotFoundError):
        part(Image(path="/nowhere/at/all.png"))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("text", "text"),
        ({"model": MODEL}, {"model": MODEL_JSON}),
        (ValueError("out of paper"), "out of paper"),
        ({"error": OSError("gone")}, {"error": "gone"}),
        ({"error": OSError("a\ud800")}, {"error": "a\ufffd"}),
        (endless(), "[[...]]"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_log_message_never_fails_for_what_it_is_about(data: object, expected: object) -> None:
    with record() as said:
        log(data, "warning")
    assert said.logs == [("warning", expected, None)]


def test_a_level_that_is_none_is_refused() -> None:
    with record(), pytest.raises(ValueError, match="'loud' is none of debug, info"):
        log("hey", "loud")


def test_parts_of_threads_are_all_there_and_each_thread_s_in_order() -> None:
    def work(name: str) -> None:
        for number in range(200):
            part([name, number])

    with record() as said:
        threads = [threading.Thread(target=copy_context().run, args=(work, name)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    for name in "abc":
        assert [n for who, n in said.parts if who == name] == list(range(200))


async def test_a_tool_that_gives_out_nonsense_fails_with_its_parts_so_far() -> None:
    mcp = Headway()

    @mcp.tool()
    def work() -> str:
        part("one")
        part(Odd())
        return "never"

    outcome = await run_tool(mcp, "work", raise_on_error=False)
    assert outcome.is_error
    assert outcome.parts == ["one"]


async def test_parts_are_no_part_of_the_result() -> None:
    mcp = Headway()

    @mcp.tool()
    async def work() -> Mapping[str, int]:
        part({"a": 1})
        return {"b": 2}

    outcome = await run_tool(mcp, "work")
    assert outcome.parts == [{"a": 1}]
    assert outcome.result == {"b": 2}


async def test_a_part_after_the_result_is_dropped_without_a_word() -> None:
    mcp, goes_on, over = Headway(), threading.Event(), threading.Event()
    raised: list[BaseException] = []

    def afterwards() -> None:
        goes_on.wait(PATIENCE)
        try:
            part("late")
            log("late")
        except BaseException as error:  # noqa: BLE001 - none is expected, of whatever kind
            raised.append(error)
        over.set()

    @mcp.tool()
    def work() -> str:
        threading.Thread(target=copy_context().run, args=(afterwards,)).start()
        return "done"

    outcome = await run_tool(mcp, "work")
    goes_on.set()
    assert over.wait(PATIENCE)
    assert (outcome.parts, outcome.logs, raised) == ([], [], [])

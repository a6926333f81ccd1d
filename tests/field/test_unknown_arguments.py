"""Arguments that a tool does not have: the call is refused, with the names that there are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.tools import Tool
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator
from tests.kit.peers import connect, each_era, served
from typing_extensions import TypedDict

from headway import Headway, Settings
from headway.testing import run_tool
from headway.tools import build

pytestmark = pytest.mark.anyio


class Page(BaseModel):
    size: int = 10
    cursor: str | None = None


class Sort(TypedDict):
    by: str


@dataclass
class Range:
    low: int
    high: int = 9


class Tree(BaseModel):
    kids: list["Tree"] = []


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    size: int = 1


class Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore")
    size: int = 1


class Renamed(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    most: int = Field(default=1, validation_alias=AliasChoices("maxResults", "limit"))


class Old(BaseModel):
    size: int = 1

    @model_validator(mode="before")
    @classmethod
    def renamed(cls, given: Any) -> Any:
        """Takes what earlier versions called `length`."""
        return {"size": given["length"]} if "length" in given else given


mcp = Headway("arguments")


@mcp.tool()
def find(
    query: str,
    page: Page | None = None,
    pages: list[Page] | None = None,
    by_name: dict[str, Page] | None = None,
    sort: Sort | None = None,
    between: Range | None = None,
    either: Page | Range | None = None,
    tree: Tree | None = None,
    open: Open | None = None,
    lenient: Lenient | None = None,
    renamed: Renamed | None = None,
    old: Old | None = None,
    free: dict[str, Any] | None = None,
) -> str:
    return "found"


@mcp.tool(ignore_unknown=True)
def lax(query: str = "", page: Page | None = None) -> str:
    return query


@mcp.tool()
def nothing() -> str:
    return "done"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"qeury": "x"}, ("no argument 'qeury'", "the tool has query, page, pages")),
        ({"query": "x", "page": {"sise": 1}}, ("no 'sise' in page", "it has size, cursor")),
        ({"query": "x", "page": '{"sise": 1}'}, ("no 'sise' in page",)),
        ({"query": "x", "pages": [{}, {"sise": 1}]}, ("no 'sise' in pages.1",)),
        ({"query": "x", "by_name": {"a": {"sise": 1}}}, ("no 'sise' in by_name.a",)),
        ({"query": "x", "sort": {"by": "a", "desc": True}}, ("no 'desc' in sort", "it has by")),
        ({"query": "x", "between": {"low": 1, "hi": 2}}, ("no 'hi' in between", "low, high")),
        ({"query": "x", "either": {"low": 1, "hi": 2}}, ("no 'hi' in either",)),
        ({"query": "x", "tree": {"kids": [{"kisd": []}]}}, ("no 'kisd' in tree.kids.0",)),
        ({"query": "x", "renamed": {"max": 1}}, ("no 'max' in renamed", "limit, maxResults, most")),
        ({"query": "x", "{0} \ud83d\ude00": 1}, ("no argument '{0} \U0001f600'",)),
    ],
)  # fmt: skip
async def test_a_name_that_is_not_there_is_refused_with_those_that_are(
    arguments: dict[str, Any], words: tuple[str, ...]
) -> None:
    outcome = await run_tool(mcp, "find", arguments, raise_on_error=False)
    assert outcome.error is not None
    assert all(word in outcome.error for word in words), outcome.error


@pytest.mark.parametrize(
    "arguments",
    [
        {"open": {"any": 1}},
        {"lenient": {"any": 1}},
        {"renamed": {"limit": 1}},
        {"renamed": {"most": 1}},
        {"old": {"length": 1}},
        {"free": {"any": {"thing": 1}}},
        {"either": {"low": 1}},
        {"page": '{"size": "5"}'},
        {"page": None, "tree": {"kids": [{}, {"kids": []}]}},
    ],
)
async def test_what_an_author_allows_is_taken(arguments: dict[str, Any]) -> None:
    assert (await run_tool(mcp, "find", {"query": "x", **arguments})).result == "found"


async def test_an_author_can_have_them_dropped() -> None:
    given = {"query": "x", "other": 1, "page": {"other": 1}}
    assert (await run_tool(mcp, "lax", given)).result == "x"


async def test_a_tool_without_arguments_says_so() -> None:
    outcome = await run_tool(mcp, "nothing", {"a": 1}, raise_on_error=False)
    assert "no argument 'a'; the tool has none" in (outcome.error or "")


async def test_a_name_of_any_length_is_repeated_to_some_extent_only() -> None:
    many = {f"{'x' * 10_000}{n}": 1 for n in range(100)}
    outcome = await run_tool(mcp, "find", many, raise_on_error=False)
    assert outcome.error is not None
    assert "there is no argument" in outcome.error
    assert outcome.error.count("there is no argument") == 5


@each_era
async def test_the_schema_that_clients_get_says_it_too(era: str) -> None:
    async with served(mcp) as wire:
        client = await connect(wire, era)
        listed = (await (await client.request("tools/list")).outcome())["result"]["tools"]
        answer = await (await client.call("find", {"qeury": "x"})).outcome()
    schemas = {tool["name"]: tool["inputSchema"] for tool in listed}
    assert schemas["find"]["additionalProperties"] is False
    assert schemas["find"]["$defs"]["Page"]["additionalProperties"] is False
    assert "additionalProperties" not in schemas["lax"]
    assert answer["result"]["isError"] is True


@each_era
async def test_the_ready_made_tools_refuse_names_that_they_do_not_have(
    era: str, tmp_path: Path
) -> None:
    async with served(build([tmp_path], tmp_path)) as wire:
        client = await connect(wire, era)
        for tool, arguments, known in (
            ("process_files", {"directory": ".", "glob": "*"}, "directory, pattern, operation"),
            ("search", {"query": "x", "max_results": 1}, "query, sources, limit"),
            ("long_task", {"seconds": 0}, "steps, seconds_per_step"),
        ):
            result = (await (await client.call(tool, arguments)).outcome())["result"]
            assert result["isError"] is True
            assert f"the tool has {known}" in result["content"][0]["text"]


@each_era
async def test_continue_run_refuses_them_too(era: str) -> None:
    async with served(mcp, settings=Settings(hand_over=1)) as wire:
        client = await connect(wire, era)
        arguments = {"run_id": "x", "wait": 5}
        result = (await (await client.call("continue_run", arguments)).outcome())["result"]
    assert result["isError"] is True
    assert "no other arguments" in result["content"][0]["text"]


async def test_a_server_of_the_sdk_drops_them_as_ever() -> None:
    theirs = MCPServer("theirs")

    @theirs.tool()
    def echo(value: str) -> str:
        return value

    assert (await run_tool(theirs, "echo", {"value": "x", "other": 1})).result == "x"


async def test_tools_that_a_server_was_made_with_refuse_them_too() -> None:
    def echo(value: str) -> str:
        return value

    outcome = await run_tool(
        Headway("made", tools=[Tool.from_function(echo)]),
        "echo",
        {"value": "x", "other": 1},
        raise_on_error=False,
    )
    assert "the tool has value" in (outcome.error or "")

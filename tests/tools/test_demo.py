"""`long_task` and the server that has all the tools."""

import json
from typing import Any

import pytest
from mcp.server.mcpserver.exceptions import ToolError

from headway.tools import build

pytestmark = pytest.mark.anyio


async def test_a_long_task_takes_its_steps(workplace: Any) -> None:
    server = build([workplace.root], workplace.data)
    result = await server.call_tool("long_task", {"steps": 20, "seconds_per_step": 0})
    assert getattr(result, "structured_content", None) == {"result": "Done: 20 steps of 0 s"}


@pytest.mark.parametrize(
    "arguments",
    [
        {"steps": 0},
        {"steps": 21},
        {"steps": "many"},
        {"steps": 1.5},
        {"seconds_per_step": -1},
        {"seconds_per_step": 61},
        {"seconds_per_step": float("nan")},
    ],
)
async def test_a_long_task_has_bounds(workplace: Any, arguments: dict[str, Any]) -> None:
    server = build([workplace.root], workplace.data)
    with pytest.raises(ToolError):
        await server.call_tool("long_task", arguments)


async def test_the_schema_tells_the_bounds_and_the_operations(workplace: Any) -> None:
    server = build([workplace.root], workplace.data)
    tools = {tool.name: tool for tool in await server.list_tools()}
    steps = tools["long_task"].input_schema["properties"]["steps"]
    assert (steps["minimum"], steps["maximum"], steps["default"]) == (1, 20, 5)
    schema = tools["process_files"].input_schema
    assert schema["required"] == ["directory"]
    assert schema["properties"]["operation"]["enum"] == ["checksum", "stats", "index"]
    assert tools["process_files"].output_schema is not None
    assert "\n   " not in (tools["process_files"].description or "")
    assert "below the root directory" in (server.instructions or "")
    assert str(workplace.root) not in (server.instructions or "")


async def test_a_call_gives_the_summary_as_structured_content(workplace: Any) -> None:
    workplace.write("a.txt", "x")
    server = build([workplace.root], workplace.data)
    result: Any = await server.call_tool("process_files", {"directory": "."})
    assert result.structured_content["ok"] == 1
    assert json.loads(result.content[0].text) == result.structured_content


async def test_an_operation_that_does_not_exist_is_refused(workplace: Any) -> None:
    server = build([workplace.root], workplace.data)
    with pytest.raises(ToolError, match="checksum"):
        await server.call_tool("process_files", {"directory": ".", "operation": "delete"})

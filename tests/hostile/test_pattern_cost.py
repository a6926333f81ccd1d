"""Arguments of the ready-made tools that would cost much: bounded before they are used."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.kit.http import Answer
from tests.kit.peers import Modern, connect, each_era, served
from tests.kit.waits import until

from headway import Headway
from headway.testing import run_tool
from headway.tools import build
from headway.tools.config import Config
from headway.tools.patterns import MAX_PATTERN, MAX_WILDCARDS, Pattern
from headway.tools.web.hosts import Host, Hosts

pytestmark = pytest.mark.anyio


@pytest.fixture
def server(tmp_path: Path) -> Headway:
    root = tmp_path / "root"
    root.mkdir()
    (root / ("a" * 200)).write_text("x\n")
    config = Config(hosts=Hosts({"api.test": Host()}))
    return build([root], tmp_path / "data", config=config)


@pytest.mark.parametrize(
    "pattern",
    ["[" * 1000, "[" * 150_000, "[ab]" * 200, "*a" * 500, "?" * 300, "*" * 4000, "a" * 2000,
     "[!" * 500, "a[" * 300 + "]", "*/" * 90 + "[" * 100],
)  # fmt: skip
@each_era
async def test_a_pattern_of_brackets_or_stars_is_refused(
    server: Headway, era: str, pattern: str
) -> None:
    async with served(server) as wire:
        client = await connect(wire, era)
        arguments = {"directory": ".", "pattern": pattern}
        answer: Answer = await client.call("process_files", arguments)
        result = (await answer.outcome())["result"]
    assert result["isError"]
    assert len(result["content"][0]["text"]) < 500


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("process_files", {"directory": "a/" * 3000}),
        ("process_files", {"directory": "x" * 300_000}),
        ("process_files", {"directory": ".", "operation": "x" * 100_000}),
        ("search", {"query": "x" * 1001}),
        ("search", {"query": "x", "sources": ["documents"] * 101}),
        ("search", {"query": "x", "sources": ["x" * 101]}),
        ("process_batch",
         {"items": list(range(10_001)), "request": {"url": "http://api.test/{item}"}}),
        ("process_batch", {"items": [1], "request": {"url": "http://api.test/" + "x" * 4000}}),
        ("process_batch", {"items": [1], "request": {"url": "{item}", "headers": {"x" * 201: ""}}}),
        ("process_batch", {"items": [1], "request": {"url": "{item}", "expect": [200] * 101}}),
        ("process_batch", {"items": [1], "request": {"url": "{item}", "expect": [10**9]}}),
        ("process_batch", {"items": [1], "request": {"url": "{item}", "as_written": ["x"] * 51}}),
        ("process_batch",
         {"items": [1], "request": {"url": "{item}", "headers": {str(n): "" for n in range(31)}}}),
    ],
)  # fmt: skip
async def test_every_text_and_list_has_a_bound(
    server: Headway, tool: str, arguments: dict[str, Any]
) -> None:
    outcome = await run_tool(server, tool, arguments, raise_on_error=False)
    assert outcome.is_error
    assert len(outcome.error or "") < 1500


def test_the_costliest_pattern_that_is_allowed_takes_few_steps() -> None:
    """Nothing is tried twice: the time is bounded by the length of a name times the wildcards."""
    names = ["a" * 255, "ba" * 127, "a" * 254 + "c"]
    patterns = ["*a" * MAX_WILDCARDS + "b", "[ab]*" * (MAX_WILDCARDS // 2) + "b", "?*" * 32 + "b"]
    begin = os.times().user
    for text in patterns:
        pattern = Pattern(text)
        matches = pattern.file_matcher(pattern.start)
        for name in names:
            assert matches is not None
            assert not matches(name)
    assert os.times().user - begin < 5
    assert len(patterns[0]) < MAX_PATTERN


@pytest.fixture
def release() -> threading.Event:
    return threading.Event()


async def test_a_thread_that_does_not_stop_keeps_its_place_and_is_counted(
    release: threading.Event,
) -> None:
    mcp = Headway("stuck")
    inside = threading.Event()

    @mcp.tool(concurrency=2)
    def hang() -> str:
        inside.set()
        release.wait(60)
        return "late"

    async with served(mcp) as wire:
        client = Modern(wire)
        connection = await client.send(client.call_message("hang", token=1))
        await until(inside.is_set)
        connection.cut()
        await until(lambda: any(run.stop_event for run in wire.app.engine.runs.values()))
        await wire.clock.advance(2)
        await until(lambda: not wire.app.engine.runs)
        assert metric(wire.app, "headway_tool_in_use", "hang") == 1
        assert metric(wire.app, "headway_tool_stuck", "hang") == 1
        release.set()
        await until(lambda: metric(wire.app, "headway_tool_stuck", "hang") == 0)
        assert metric(wire.app, "headway_tool_in_use", "hang") == 0


def metric(app: Any, name: str, tool: str) -> float:
    for family in app.metrics.collect():
        for sample in family.samples:
            if sample.name == name and sample.labels.get("tool") == tool:
                return sample.value
    raise AssertionError(f"no {name} of {tool}")

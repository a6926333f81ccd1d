"""What `Headway.tool` takes beyond the SDK's own options, and what it refuses at import."""

import asyncio
from typing import Any

import pytest
from tests.kit.waits import PATIENCE

from headway import Headway, Settings, SetupError, report
from headway.testing import FakeClock, run_tool

pytestmark = pytest.mark.anyio


def work() -> str:
    """Do nothing."""
    return "ok"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"timeout": "soon"}, "tool 'work': timeout 'soon' is not a duration"),
    ({"timeout": 0}, "tool 'work': timeout 0 is not a duration"),
    ({"timeout": -5}, "tool 'work': timeout -5 is not a duration"),
    ({"timeout": float("nan")}, "tool 'work': timeout nan is not a duration"),
    ({"timeout": []}, "tool 'work': timeout [] is not a duration"),
    ({"concurrency": 0}, "tool 'work': concurrency must be"),
    ({"concurrency": -1}, "tool 'work': concurrency must be"),
    ({"concurrency": 1.5}, "tool 'work': concurrency must be"),
    ({"concurrency": "4"}, "tool 'work': concurrency must be"),
    ({"concurrency": True}, "tool 'work': concurrency must be"),
    ({"rate": -1}, "tool 'work': rate must be"),
    ({"rate": float("nan")}, "tool 'work': rate must be"),
    ({"rate": float("inf")}, "tool 'work': rate must be"),
    ({"rate": "fast"}, "tool 'work': rate must be"),
    ({"rate": True}, "tool 'work': rate must be"),
    ({"hand_over": "later"}, "tool 'work': hand_over 'later' is no window"),
    ({"hand_over": "2m", "timeout": "1m"}, "tool 'work': hand_over after 120 s can never happen"),
    ({"hand_over": "1m", "timeout": "1m"}, "tool 'work': hand_over after 60 s can never happen"),
    ({"hand_over": "never", "needs_task": True}, "tool 'work': a tool that needs_task"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=str)
def test_options_that_make_no_sense_name_the_tool_and_the_option(
    options: dict[str, Any], message: str
) -> None:
    mcp = Headway()
    with pytest.raises(SetupError) as refused:
        mcp.tool(**options)(work)
    assert str(refused.value).startswith(message)
    assert mcp.tool_options == {}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"timeout": "500ms", "concurrency": 1, "rate": 0},
        {"timeout": 30, "hand_over": "at once"},
        {"timeout": "30m", "hand_over": "45s", "needs_task": True},
        {"hand_over": "never", "timeout": 5},
        {"rate": 0.5},
    ],
    ids=str,
)
async def test_options_that_make_sense_are_taken(options: dict[str, Any]) -> None:
    mcp = Headway()
    mcp.tool("other", **options)(work)
    assert mcp.tool_options.keys() == {"other"}
    assert (await run_tool(mcp, "other")).result == "ok"


def test_the_decorator_without_parentheses_says_so() -> None:
    tool: Any = Headway().tool
    with pytest.raises(TypeError, match="with parentheses"):
        tool(work)


async def test_a_tool_s_own_rate_overrides_the_server_s() -> None:
    mcp = Headway()

    def flood() -> str:
        for step in range(100):
            report(step, 99)
        return "ok"

    mcp.add_tool(flood, "all", rate=0)
    mcp.add_tool(flood, "few")
    everything = await run_tool(mcp, "all", settings=Settings(), clock=FakeClock())
    assert [told.progress for told in everything.progress] == list(range(100))
    few = await run_tool(mcp, "few", settings=Settings(), clock=FakeClock())
    assert [told.progress for told in few.progress] == [0, 99]


async def test_a_slower_rate_holds_the_newest_value_back_for_longer() -> None:
    mcp, clock = Headway(), FakeClock()
    reached, goes_on = asyncio.Event(), asyncio.Event()

    @mcp.tool(rate=0.1)
    async def work() -> str:
        report(1, 3)
        report(2, 3)
        reached.set()
        await goes_on.wait()
        report(3, 3)
        return "ok"

    async with asyncio.timeout(PATIENCE):
        call = asyncio.create_task(run_tool(mcp, "work", settings=Settings(), clock=clock))
        await reached.wait()
        await clock.advance(9)
        goes_on.set()
        outcome = await call
    assert [told.progress for told in outcome.progress] == [1, 3]

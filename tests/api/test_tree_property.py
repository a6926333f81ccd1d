"""Any tree of concurrent stages gives the client progress that grows and ends at its total."""

import asyncio
import threading
from contextlib import suppress
from contextvars import copy_context
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kit.waits import PATIENCE

from headway import Headway, Settings, report, stage, track
from headway.testing import run_tool


class Plan(NamedTuple):
    """What a piece of work does; its children are worked on inside it."""

    kind: str
    weight: float
    total: float | None
    fails: bool
    children: list[Any]


class Broken(Exception):
    pass


weights = st.floats(min_value=0.01, max_value=100)
totals = st.none() | st.floats(min_value=0.5, max_value=20)
kinds = st.sampled_from(
    ["stage", "track", "endless", "weighed", "left", "async", "tasks", "threads", "report", "grow"]
)
plans = st.recursive(
    st.builds(Plan, kinds, weights, totals, st.booleans(), st.just([])),
    lambda inner: st.builds(
        Plan, kinds, weights, totals, st.booleans(), st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=8,
)


def in_threads(plans: list[Plan]) -> None:
    threads = [
        threading.Thread(target=copy_context().run, args=(work, plan), daemon=True)
        for plan in plans
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)


def work(plan: Plan) -> None:
    """The plan in plain code; concurrent children are threads."""
    with suppress(Broken):
        match plan.kind:
            case "track" | "endless" | "weighed" | "left":
                items: Any = iter(range(3)) if plan.kind == "endless" else range(3)
                weight = plan.weight if plan.kind == "weighed" else None
                for item in track(items, message="Item {item}", weight=weight):
                    if item == 1:
                        in_threads(plan.children)
                        if plan.kind == "left":
                            break
                    if plan.fails and item == 2:
                        raise Broken
            case "grow":
                with stage(total=plan.total):
                    for known in range(1, 5):
                        report(known - 1, known, f"{known} known")
                        in_threads(plan.children[known - 1 : known])
            case "report":
                report(1, plan.total)
                report(0.5, 3, "back")
            case _:
                with stage(plan.kind, weight=plan.weight, total=plan.total):
                    if plan.kind == "threads":
                        in_threads(plan.children)
                    for child in plan.children if plan.kind != "threads" else ():
                        work(child)
                    if plan.fails:
                        raise Broken


async def work_async(plan: Plan) -> None:
    """The plan on the event loop; concurrent children are tasks."""
    if plan.kind not in ("tasks", "stage", "async"):
        await asyncio.to_thread(work, plan)
        return
    with suppress(Broken):
        if plan.kind == "async":
            async for child in track(plan.children, total=plan.total, weight=plan.weight):
                await work_async(child)
                if plan.fails:
                    return
            return
        async with stage(plan.kind, weight=plan.weight, total=plan.total):
            if plan.kind == "tasks":
                await asyncio.gather(*(work_async(child) for child in plan.children))
            else:
                for child in plan.children:
                    await work_async(child)
            if plan.fails:
                raise Broken


@settings(max_examples=60)
@given(st.lists(plans, min_size=1, max_size=4), st.sampled_from([0.0, 4.0]))
def test_progress_strictly_grows_and_ends_at_the_total(trees: list[Plan], rate: float) -> None:
    mcp = Headway("s")

    @mcp.tool()
    async def tool() -> str:
        await asyncio.gather(*(work_async(tree) for tree in trees))
        return "done"

    outcome = asyncio.run(run_tool(mcp, "tool", settings=Settings(progress_rate=rate)))
    assert outcome.result == "done"
    values = [p.progress for p in outcome.progress]
    assert all(a < b for a, b in pairwise(values))
    assert all(p.total is None or p.progress <= p.total for p in outcome.progress)
    last = outcome.progress[-1]
    assert last.total is None or last.progress == last.total


@pytest.mark.parametrize("threaded", [True, False])
def test_ten_thousand_items_leave_nothing_behind(threaded: bool) -> None:
    mcp = Headway("s")

    def many() -> int:
        for _ in track(range(100)):
            for _ in track(range(100)):
                pass
        return 1

    async def many_async() -> int:
        return many()

    mcp.add_tool(many if threaded else many_async, name="many")
    outcome = asyncio.run(run_tool(mcp, "many", settings=Settings()))
    assert outcome.progress[-1][:2] == (100, 100)

"""The authoring API on a real socket, in both eras."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextvars import copy_context
from itertools import pairwise
from typing import Any

import pytest
from mcp.server.mcpserver import Image
from mcp_types import ResourceLink
from tests.kit.peers import connect, each_era, progress_of, served
from tests.kit.waits import PATIENCE

from headway import Headway, Settings, part, stage, track
from headway.protocol.run_uris import META_KEY

pytestmark = pytest.mark.anyio


def mission() -> Headway:
    mcp = Headway("s")

    @mcp.tool()
    async def draw() -> AsyncIterator[str | Image]:
        yield "sketching"
        yield Image(data=b"PNG", format="png")
        part({"see": ResourceLink(type="resource_link", name="n", uri="x://n")})

    @mcp.tool()
    async def everything() -> str:
        def in_a_thread(barrier: threading.Barrier) -> None:
            with stage("Thread"):
                for _ in track(range(500), message="Item {item}"):
                    pass
                barrier.wait(PATIENCE)

        async def in_a_task(number: int) -> None:
            async with stage(f"Task {number}", weight=number):
                async for _ in track(range(20)):
                    await asyncio.sleep(0)

        barrier = threading.Barrier(2)
        async with stage("All"), asyncio.TaskGroup() as group:
            for number in (1, 2):
                group.create_task(in_a_task(number))
                group.create_task(asyncio.to_thread(in_a_thread, barrier))
        with stage("Plain thread", weight=2):
            thread = threading.Thread(
                target=copy_context().run, args=(in_a_thread, threading.Barrier(1))
            )
            thread.start()
            await asyncio.to_thread(thread.join, 5)
        return "done"

    return mcp


@each_era
async def test_parts_of_every_kind_reach_a_client_as_they_are_in_the_journal(era: str) -> None:
    async with served(mission()) as wire:
        client = await connect(wire, era)
        options: dict[str, Any] = {"level": "info"} if era == "2026" else {}
        messages = await (await client.call("draw", **options)).rest()
    image = {"type": "image", "data": "UE5H", "mimeType": "image/png"}
    params = [message["params"] for message in messages[:-1]]
    assert [told["data"] for told in params] == [
        "sketching", image, {"see": {"type": "resource_link", "name": "n", "uri": "x://n"}},
    ]  # fmt: skip
    assert {(told["level"], told["logger"]) for told in params} == {("info", "headway.part")}
    assert all(told["_meta"][META_KEY].startswith("headway://runs/") for told in params)
    assert [block["type"] for block in messages[-1]["result"]["content"]] == ["text", "image"]


@each_era
@pytest.mark.parametrize("rate", [0.0, 4.0])
async def test_concurrent_stages_give_progress_that_grows_and_ends_at_its_total(
    era: str, rate: float
) -> None:
    async with served(mission(), settings=Settings(progress_rate=rate)) as wire:
        client = await connect(wire, era)
        messages = await (await client.call("everything", token="t")).rest()
    assert messages[-1]["result"]["content"][0]["text"] == "done"
    values = progress_of(messages)
    assert all(one < two for one, two in pairwise(values))
    last = messages[-2]["params"]
    assert last["progress"] == last["total"] == 3
    assert (len(values) > 500) == (rate == 0)

"""`headway call` outlasts what is between it and the result: cuts, restarts, a busy server."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.kit.program import Finished, Program, Programs

from headway.testing import Cut, Proxy, ServerProcess

pytestmark = pytest.mark.anyio

LASTING = Path(__file__).parent / "lasting.py"

STEPS = 12


def serving(journal: str, *options: str) -> ServerProcess:
    command = (sys.executable, "-P", "-m", "headway", "run", f"{LASTING}:mcp")
    quick = ("--set", "retry=100ms", "--set", "lease=1s", "--grace", "1s")
    return ServerProcess([*command, "--port", "{port}", "--journal", journal, *quick, *options])


def numbers_in(ended: Finished) -> list[int]:
    return json.loads(ended.out or "[]")


async def finished(program: Program) -> Finished:
    return await asyncio.to_thread(program.finish)


@asynccontextmanager
async def through_a_proxy(*options: str) -> AsyncGenerator[Proxy]:
    async with serving("memory:", *options) as server, Proxy(f"{server.origin}/mcp") as proxy:
        yield proxy


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("tool", ["steps", "no_task"])
async def test_a_call_whose_stream_is_cut_again_and_again_ends_with_its_result(
    programs: Programs, tmp_path: Path, tool: str, how: Any
) -> None:
    marks = tmp_path / "marks"
    async with through_a_proxy() as proxy:
        for _ in range(3):
            proxy.plan(Cut(text=b'"step', messages=2, how=how))
        program = programs.start("call", proxy.url, tool, f"number={STEPS}", f"marks={marks}")
        ended = await finished(program)
        assert proxy.counts.cuts == 3
    assert (ended.code, numbers_in(ended)) == (0, list(range(1, STEPS + 1))), ended.err
    lines = ended.err.splitlines()
    assert [line for line in lines if line.startswith("+")] == [
        f'+ {{"step": {n}}}' for n in range(1, STEPS + 1)
    ]
    assert f"[{STEPS}/{STEPS}] Step {STEPS}" in lines
    assert marks.read_text() == "called\n"
    assert "the connection was lost" in ended.err


async def test_a_call_whose_answer_never_came_is_sent_again_and_done_once(
    programs: Programs, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    async with through_a_proxy() as proxy:
        proxy.plan(Cut(request=b'"tools/call"'))
        proxy.plan(Cut(request=b'"tasks/result"'))
        program = programs.start("call", proxy.url, "steps", "number=2", f"marks={marks}")
        ended = await finished(program)
        assert proxy.counts.cuts == 2
    assert (ended.code, numbers_in(ended)) == (0, [1, 2]), ended.err
    assert marks.read_text() == "called\n"


async def test_a_task_of_2026_is_looked_after_through_cuts(
    programs: Programs, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    async with through_a_proxy() as proxy:
        for _ in range(2):
            proxy.plan(Cut(request=b'"tasks/get"'))
        arguments = (f"number={STEPS}", f"marks={marks}")
        program = programs.start("call", proxy.url, "as_task", *arguments, "--era", "2026")
        ended = await finished(program)
        assert proxy.counts.cuts == 2
    assert (ended.code, numbers_in(ended)) == (0, list(range(1, STEPS + 1))), ended.err
    assert marks.read_text() == "called\n"


async def test_a_cut_that_cancels_a_call_of_2026_is_said_to(
    programs: Programs, tmp_path: Path
) -> None:
    async with through_a_proxy() as proxy:
        proxy.plan(Cut(text=b'"step', messages=2))
        arguments = (f"number={STEPS}", f"marks={tmp_path / 'marks'}")
        program = programs.start("call", proxy.url, "steps", *arguments, "--era", "2026")
        ended = await finished(program)
    assert (ended.code, ended.out) == (4, ""), ended.err
    assert "a lost connection cancels a call of 2026-07-28" in ended.err.splitlines()[-1]


@pytest.mark.parametrize("end", ["crash", "deploy"])
async def test_a_call_goes_on_in_the_next_process_of_its_server(
    programs: Programs, tmp_path: Path, end: str
) -> None:
    async with serving(f"sqlite:///{tmp_path}/journal.db") as server:
        program = programs.start("call", f"{server.origin}/mcp", "begun_anew")
        await asyncio.to_thread(program.wait_for, "Waiting for the end")
        await (server.kill() if end == "crash" else server.terminate())
        await server.start()
        ended = await finished(program)
    assert (ended.code, ended.out) == (0, "whole\n"), ended.err
    parts = [line for line in ended.err.splitlines() if line.startswith("+")]
    assert parts == ["+ first half", "+ second half"]


async def test_a_server_that_has_forgotten_a_call_is_said_to_have(
    programs: Programs, tmp_path: Path
) -> None:
    async with serving("memory:") as server:
        program = programs.start("call", f"{server.origin}/mcp", "forgotten")
        await asyncio.to_thread(program.wait_for, "Waiting for the end")
        await server.kill()
        await server.start()
        ended = await finished(program)
    assert (ended.code, ended.out) == (4, ""), ended.err
    assert "does not know the call any more" in ended.err.splitlines()[-1]


async def test_a_call_of_2026_is_not_made_again_at_a_server_that_forgot_its_key(
    programs: Programs, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    async with serving("memory:") as server:
        arguments = ("steps", "number=100000", f"marks={marks}", "--era", "2026")
        program = programs.start("call", f"{server.origin}/mcp", *arguments)
        await asyncio.to_thread(program.wait_for, "Step")
        await server.kill()
        await server.start()
        ended = await finished(program)
    assert (ended.code, ended.out) == (4, ""), ended.err
    assert ended.err.endswith("Whether steps was done is not known\n")
    assert marks.read_text() == "called\n"


async def test_a_server_that_does_not_come_back_is_given_up(programs: Programs) -> None:
    async with serving("memory:") as server:
        program = programs.start(
            "call", f"{server.origin}/mcp", "forgotten", "--retry-for", "300ms"
        )
        await asyncio.to_thread(program.wait_for, "Waiting for the end")
        await server.kill()
        ended = await finished(program)
    assert (ended.code, ended.out) == (4, ""), ended.err
    assert "the connection was lost" in ended.err.splitlines()[-1]


async def test_a_busy_server_is_tried_again_until_it_has_room(
    programs: Programs, tmp_path: Path
) -> None:
    full = ("--set", "max_runs=1", "--set", "max_queue=0")
    marks = tmp_path / "marks"
    async with serving("memory:", *full) as server:
        url = f"{server.origin}/mcp"
        first = programs.start("call", url, "forgotten")
        await asyncio.to_thread(first.wait_for, "Waiting for the end")
        refused = programs.start(
            "call", url, "steps", "number=1", f"marks={marks}", "--retry-for", "0"
        )
        ended = await finished(refused)
        assert ended.code == 4
        assert f"headway: {url} is busy: " in ended.err
        assert "max_queue" in ended.err
        assert "asks to be tried again after" in ended.err
        assert "lost" not in ended.err
        waiting = programs.start("call", url, "steps", "number=1", f"marks={marks}")
        await asyncio.to_thread(waiting.wait_for, "trying again in")
        first.interrupt()
        assert (await finished(first)).code == 130
        assert (await finished(waiting)).code == 0
    assert marks.read_text() == "called\n"

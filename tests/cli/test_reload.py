"""`headway run --reload`: new code for the next call, while sessions and calls live on."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from mcp import Client
from mcp_types import TextContent
from tests.kit.program import Program, Programs
from tests.kit.waits import until

pytestmark = pytest.mark.anyio

CODE = """
import asyncio
from pathlib import Path

from headway import Headway, report

mcp = Headway("reloaded")


@mcp.tool()
def version() -> str:
    return "VERSION"


@mcp.tool()
async def wait_for(file: str) -> str:
    report(0, 1)
    while not Path(file).exists():
        await asyncio.sleep(0.02)
    return "VERSION"
"""


@pytest.fixture
def server(programs: Programs, tmp_path: Path) -> tuple[Program, str, Callable[[str], None]]:
    """A server that reloads, its URL, and what writes its code anew."""
    place = tmp_path / "code"
    place.mkdir()
    file = place / "app.py"

    def save(code: str) -> None:
        file.write_text(code)

    save(CODE.replace("VERSION", "one"))
    program = programs.start("run", f"{file}:mcp", "--port", "0", "--reload")
    url = program.wait_for("serving reloaded").split(" at ")[1].split(",")[0]
    return program, url, save


def children_of(program: Program) -> list[int]:
    listed = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text()
    return list(map(int, listed.split()))


async def ask(client: Client, tool: str = "version", **arguments: str) -> list[str]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result
    return [block.text for block in result.content if isinstance(block, TextContent)]


async def wait_for(program: Program, text: str) -> None:
    await asyncio.to_thread(program.wait_for, text)


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_the_next_call_of_a_session_is_answered_by_the_new_code(
    server: tuple[Program, str, Callable[[str], None]], mode: str
):
    program, url, save = server
    async with Client(url, mode=mode) as client:
        assert await ask(client) == ["one"]
        save(CODE.replace("VERSION", "two"))
        await wait_for(program, "the new code answers")
        assert await ask(client) == ["two"]
        save(CODE.replace("VERSION", "three"))
        await wait_for(program, "the new code answers")
        assert await ask(client) == ["three"]
    program.interrupt()
    ended = await asyncio.to_thread(program.finish)
    assert ended.code == 0
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_call_that_runs_ends_with_the_code_that_it_began_with(
    server: tuple[Program, str, Callable[[str], None]], mode: str, tmp_path: Path
):
    program, url, save = server
    file, begun = tmp_path / "go", asyncio.Event()

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        begun.set()

    async with Client(url, mode=mode) as client:
        waiting = asyncio.create_task(
            client.call_tool("wait_for", {"file": str(file)}, progress_callback=on_progress)
        )
        await until(begun.is_set)
        save(CODE.replace("VERSION", "two"))
        await wait_for(program, "the new code answers")
        assert await ask(client) == ["two"]
        file.touch()
        result = await waiting
        assert [each.text for each in result.content if isinstance(each, TextContent)] == ["one"]


async def test_code_that_does_not_load_changes_nothing_and_the_next_caller_hears_why(
    server: tuple[Program, str, Callable[[str], None]],
):
    program, url, save = server
    async with Client(url) as client:
        save("def (")
        await wait_for(program, "SyntaxError")
        await wait_for(program, "what was loaded before goes on")
        answer, note = await ask(client)
        assert answer == "one"
        assert "app.py cannot be imported: SyntaxError: invalid syntax" in note
        save(CODE.replace("VERSION", "two"))
        await wait_for(program, "the new code answers")
        assert await ask(client) == ["two"]


async def test_a_retired_process_ends_when_its_last_call_has(
    server: tuple[Program, str, Callable[[str], None]], tmp_path: Path
):
    program, url, save = server
    file, begun = tmp_path / "go", asyncio.Event()

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        begun.set()

    async with Client(url) as client:
        waiting = asyncio.create_task(
            client.call_tool("wait_for", {"file": str(file)}, progress_callback=on_progress)
        )
        await until(begun.is_set)
        save(CODE.replace("VERSION", "two"))
        await wait_for(program, "the new code answers")
        assert len(children_of(program)) == 2
        file.touch()
        await waiting
        await until(lambda: len(children_of(program)) == 1)


def test_reload_is_for_http(programs: Programs, tmp_path: Path):
    (tmp_path / "app.py").write_text(CODE)
    refused = programs.run("run", "app.py", "--stdio", "--reload")
    assert refused.code == 2
    assert "--reload cannot go with --stdio" in refused.err


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--reload-dir", "missing"], 2, "missing"),
        (["--reload", "--journal", "memory:"], 3, "--reload needs a journal that processes can"),
    ],
)
def test_what_cannot_be_reloaded_is_said_at_the_start(
    programs: Programs, tmp_path: Path, options: list[str], code: int, says: str
):
    (tmp_path / "app.py").write_text(CODE)
    refused = programs.run("run", "app.py", *options)
    assert (refused.code, says in refused.err) == (code, True), refused.err


def test_a_variable_that_asks_for_reload_is_for_servers_over_http(
    programs: Programs, tmp_path: Path
):
    (tmp_path / "app.py").write_text(CODE)
    done = programs.run("run", "app.py", "--stdio", env={"HEADWAY_RELOAD": "1"})
    assert done.code == 0, done.err


async def test_a_process_that_dies_while_new_code_loads_has_one_successor(
    programs: Programs, tmp_path: Path
):
    """Its keeper starts another one: the one that was being loaded is one too many."""
    file, gate = tmp_path / "app.py", tmp_path / "gate"
    slow = f"import os, time\nwhile os.path.exists({str(gate)!r}): time.sleep(0.02)\n"
    file.write_text(CODE.replace("VERSION", "one"))
    program = programs.start("run", f"{file}:mcp", "--port", "0", "--reload")
    url = (await asyncio.to_thread(program.wait_for, "serving")).split(" at ")[1].split(",")[0]
    gate.touch()
    (old,) = children_of(program)
    file.write_text(slow + CODE.replace("VERSION", "two"))
    await wait_for(program, "loading the new code")
    await until(lambda: len(children_of(program)) == 2)
    os.kill(old, signal.SIGKILL)
    await wait_for(program, "another one is started")
    gate.unlink()
    await wait_for(program, "the new code answers")
    await until(lambda: len(children_of(program)) == 1)
    async with Client(url) as client:
        assert await ask(client) == ["two"]
    program.interrupt()
    assert (await asyncio.to_thread(program.finish)).code == 0


async def test_several_processes_load_new_code(programs: Programs, tmp_path: Path):
    file = tmp_path / "app.py"
    file.write_text(CODE.replace("VERSION", "one"))
    program = programs.start("run", f"{file}:mcp", "--port", "0", "--reload", "--workers", "3")
    url = (await asyncio.to_thread(program.wait_for, "serving")).split(" at ")[1].split(" ")[0]
    file.write_text(CODE.replace("VERSION", "two"))
    await wait_for(program, "the new code answers")
    for _ in range(6):
        async with Client(url) as client:
            assert await ask(client) == ["two"]
    await until(lambda: len(children_of(program)) == 3)


async def test_a_configuration_that_is_wrong_is_said_to_the_next_caller(
    programs: Programs, tmp_path: Path
):
    (tmp_path / "code").mkdir()
    file, toml = tmp_path / "code" / "app.py", tmp_path / "headway.toml"
    file.write_text(CODE)
    toml.write_text("[limits]\nmax_runs = 5\n")
    program = programs.start("run", f"{file}:mcp", "--port", "0", "--reload")
    url = (await asyncio.to_thread(program.wait_for, "serving")).split(" at ")[1].split(",")[0]
    toml.write_text("[limits]\nmax_rums = 5\n")
    await wait_for(program, "what was loaded before goes on")
    async with Client(url) as client:
        assert "max_rums" in (await ask(client))[-1]

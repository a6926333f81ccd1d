"""`headway run` and `headway serve` as processes."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from mcp import Client
from tests.cli.conftest import EXAMPLE, Command
from tests.kit.program import Programs
from tests.kit.waits import PATIENCE

from headway.cli.server.http_server import DEFAULT_GRACE
from headway.cli.server.listener import listening

LOW = """
from mcp.server import Server
low = Server("plain-low")
"""


def _running(programs: Programs, *more: str):
    return programs.serve("run", str(EXAMPLE), "--port", "0", *more)


@pytest.mark.requirement("http.loopback", era="2025 2026")
def test_run_says_where_the_server_is_and_answers_there(programs: Programs):
    program = programs.start("run", f"{EXAMPLE}:mcp", "--port", "0", "--path", "/other")
    line = program.wait_for("serving")
    assert line.startswith("headway: serving example at http://127.0.0.1:")
    assert line.endswith("/other (Ctrl+C to stop)")
    url = line.split(" at ")[1].split()[0]
    answer = httpx2.post(url, content=b"{", headers={"content-type": "application/json"})
    assert answer.status_code == 400


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_an_idle_server_in_order(programs: Programs, number: int):
    program, _ = _running(programs)
    program.interrupt(number)
    finished = program.finish()
    assert finished.code == 0
    assert "Traceback" not in finished.err


def test_the_default_journal_is_a_file_of_the_targets_own(programs: Programs, tmp_path: Path):
    (tmp_path / "low.py").write_text(LOW)
    for target in (str(EXAMPLE), "low.py"):
        program, _ = programs.serve("run", target, "--port", "0")
        program.interrupt()
        assert program.finish().code == 0
    files = list((programs.home / "headway").glob("*/journal.db"))
    assert len(files) == 2
    assert all(file.parent.stat().st_mode & 0o077 == 0 for file in files)


def test_options_come_from_the_environment_too(programs: Programs):
    with listening("127.0.0.1", 0) as taken:
        port = str(taken.port)
        finished = programs.run("run", str(EXAMPLE), env={"HEADWAY_PORT": port})
    assert finished.code == 3
    assert finished.err == (
        f"headway: port {port} on 127.0.0.1 is in use; choose another with --port\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["run"], 2, "Missing argument 'TARGET'"),
        (["run", str(EXAMPLE), "--port", "70000"], 2, "--port"),
        (["run", str(EXAMPLE), "--timeout", "soon"], 2, "'soon' is not a duration"),
        (["run", str(EXAMPLE), "--hand-over", "soon"], 2, "'soon' is no window"),
        (["run", str(EXAMPLE), "--clients", "none.toml"], 3, "none.toml: No such file"),
        (["run", str(EXAMPLE), "--path", "mcp"], 2, "'mcp' is not a path"),
        (["run", "nowhere.py:mcp"], 3, "nowhere.py does not exist"),
        (["run", str(EXAMPLE), "--journal", "carrier-pigeon:"], 3, "carrier-pigeon"),
        (["run", str(EXAMPLE), "--journal", "sqlite:///corrupt.db"], 3, "corrupt.db"),
        (["serve", "--root", "nowhere"], 3, "nowhere"),
    ],
)
def test_what_cannot_start_is_one_sentence(
    command: Command, tmp_path: Path, arguments: list[str], code: int, says: str
):
    (tmp_path / "corrupt.db").write_bytes(b"this is no database at all " * 100)
    finished = command(*arguments)
    assert (finished.code, finished.out) == (code, "")
    assert finished.err.startswith("headway: ")
    assert says in finished.err
    assert finished.err.count("\n") == 1


def test_a_lifespan_that_raises_shows_its_traceback_and_a_sentence(
    programs: Programs, tmp_path: Path
):
    (tmp_path / "app.py").write_text(
        "from contextlib import asynccontextmanager\n"
        "from mcp.server import MCPServer\n"
        "@asynccontextmanager\n"
        "async def lifespan(server):\n"
        "    raise KeyError('DATABASE_URL')\n"
        "    yield\n"
        "mcp = MCPServer('x', lifespan=lifespan)\n"
    )
    finished = programs.run("run", "app.py", "--port", "0", "--journal", "memory:")
    assert finished.code == 3
    assert "headway: the server's own startup code raised KeyError: 'DATABASE_URL'" in finished.err
    assert "app.py" in finished.err.splitlines()[1]
    assert "uvicorn" not in finished.err
    assert "starlette" not in finished.err


def test_a_run_that_goes_on_at_the_first_signal_is_finished_and_answered(
    programs: Programs, tmp_path: Path
):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    program, url = _running(programs, "--journal", "memory:")
    # In 2026 its answer is on the connection that is open already. In 2025 the caller may be about
    # to ask for the result, on a new connection, which a server without a successor refuses.
    caller = programs.start("call", url, "read", f"fifo={fifo}", "--era", "2026")
    caller.wait_for("reading")
    program.interrupt(signal.SIGTERM)
    program.wait_for("finishing what runs")
    fifo.write_text("the last words")
    assert (caller.finish().code, caller.finish().out) == (0, "the last words\n")
    assert program.finish().code == 0


@pytest.mark.anyio
async def test_streams_that_only_wait_for_news_do_not_hold_up_the_end(programs: Programs):
    program, url = _running(programs, "--journal", "memory:")
    async with Client(url, mode="legacy") as client:
        await client.list_tools()
        program.interrupt()
        # Less than the grace period, which an open stream would use up.
        finished = await asyncio.to_thread(program.finish, DEFAULT_GRACE * 2 / 3)
    assert finished.code == 0


def test_a_call_that_hangs_is_left_behind_at_the_second_signal(programs: Programs):
    program, url = _running(programs, "--journal", "memory:")
    caller = programs.start("call", url, "stuck", "--retry-for", "100ms")
    caller.wait_for("stuck")
    program.interrupt()
    program.wait_for("Ctrl+C again stops at once")
    program.interrupt()
    assert program.finish().code == 128 + signal.SIGINT
    assert caller.finish().code == 4


def test_serve_offers_the_ready_made_tools_below_the_root(programs: Programs, tmp_path: Path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.txt").write_text("hello")
    _, url = programs.serve("serve", "--root", str(root), "--port", "0")
    finished = programs.run("call", url, "process_files", "directory=.", "--output", "json")
    assert finished.code == 0, finished.err
    assert json.loads(finished.out)["isError"] is False


def test_the_version_is_printed(programs: Programs):
    finished = programs.run("--version")
    assert (finished.code, finished.err) == (0, "")
    assert finished.out.startswith("headway 0.")


def test_no_command_shows_the_help(command: Command):
    finished = command()
    assert finished.code == 2
    assert "tools" in finished.out + finished.err


def _imported(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    return set(done.stdout.split())


def test_the_commands_themselves_load_nothing_heavy():
    loaded = _imported("import headway.cli.app, headway.cli.exit_codes") - _imported(
        "import headway"
    )
    assert not loaded & {"rich", "mcp", "httpx2", "uvicorn", "jsonschema", "pydantic"}
    assert not any(name.startswith("headway.tools") for name in loaded)


def test_a_journal_that_is_not_encrypted_loads_no_cryptography():
    loaded = _imported("import headway.journal.sqlite.store, headway.encryption, headway.settings")
    assert "headway.journal.chunk_cipher" in loaded
    assert "cryptography" not in loaded


def test_what_run_loads_has_neither_client_commands_nor_tools():
    # `mcp` itself imports its client, and its HTTP library with it.
    loaded = _imported("import headway.cli.app, headway.cli.server.start, headway.cli.target")
    assert not loaded & {
        "rich",
        "jsonschema",
        "headway.cli.client.peer",
        "headway.cli.display.progress_bar",
    }
    assert "jwt" not in loaded  # only where there is [auth]
    assert not any(name.startswith("headway.tools") for name in loaded)

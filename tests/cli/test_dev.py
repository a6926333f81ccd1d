"""`headway dev`: a server that reloads, and the Inspector beside it, which ends with it."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from mcp import Client
from tests.kit.program import Program, Programs
from tests.kit.waits import is_alive, wait_until

from headway.client_config import INSPECTOR

SERVER = "from headway import Headway\n\nmcp = Headway('reports')\n"

ADDRESS = "http://127.0.0.1:6274?MCP_INSPECTOR_API_TOKEN=abc123"

NPX = f"""#!/bin/sh
echo $$ > "$PLACE/pid"
echo "$@" > "$PLACE/words"
cp "$MCP_CATALOG_PATH" "$PLACE/catalog"
echo "$MCP_AUTO_OPEN_ENABLED" > "$PLACE/opens"
echo "is up and running at:"
echo "   {ADDRESS}"
exec sleep 1000
"""

FAILING = """#!/bin/sh
echo "no such package \033[31m"
exit 1
"""

STUBBORN = NPX.replace("exec sleep 1000", "trap '' TERM; sleep 1000 & wait; sleep 1000")

BROWSER = """#!/bin/sh
echo "$1" > "$PLACE/opened"
"""


@pytest.fixture
def start(programs: Programs, tmp_path: Path) -> Callable[..., Program]:
    """Starts `headway dev` where `npx` is a script of the test's."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "server.py").write_text(SERVER)

    def begin(npx: str, *words: str, path: str | None = None, **env: str) -> Program:
        tools = tmp_path / "bin"
        tools.mkdir()
        for name, text in (("npx", npx), ("browser", BROWSER)):
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        found = f"{tools}{os.pathsep}{os.environ['PATH']}" if path is None else path
        return programs.start(
            "dev", str(tmp_path / "code" / "server.py"), "--port", "0", *words,
            env={"PATH": found, "PLACE": str(tmp_path), "DISPLAY": "", **env},
        )  # fmt: skip

    return begin


def url_of(program: Program) -> str:
    return program.wait_for("serving reports").split(" at ")[1].split(",")[0]


def pid_in(place: Path) -> int:
    return int((place / "pid").read_text())


def test_the_inspector_is_started_and_connected(
    start: Callable[..., Program], tmp_path: Path
) -> None:
    program = start(NPX, DISPLAY=":0", BROWSER=str(tmp_path / "bin" / "browser"))
    url = url_of(program)
    link = program.wait_for("the Inspector, connected to it: ").partition("it: ")[2]
    assert (tmp_path / "words").read_text().split() == ["-y", INSPECTOR]
    assert json.loads((tmp_path / "catalog").read_text()) == {"mcpServers": {}}
    assert (tmp_path / "opens").read_text() == "false\n"
    assert link.startswith("http://127.0.0.1:6274/?")
    assert parse_qs(urlsplit(link).query) == {
        "serverUrl": [url], "transport": ["http"], "autoConnect": ["abc123"]
    }  # fmt: skip
    wait_until(lambda: (tmp_path / "opened").exists() and (tmp_path / "opened").read_text() != "")
    assert (tmp_path / "opened").read_text().strip() == link
    program.interrupt()
    ended = program.finish()
    assert ended.code == 0
    assert not is_alive(pid_in(tmp_path))
    assert "the Inspector has ended" not in ended.err


@pytest.mark.parametrize(
    ("npx", "number"),
    [
        (npx, number)
        for npx in (NPX, STUBBORN)
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)
    ],
)
def test_the_inspector_ends_with_the_server(
    start: Callable[..., Program], tmp_path: Path, npx: str, number: signal.Signals
) -> None:
    program = start(npx)
    program.wait_for("the Inspector, connected")
    pid = pid_in(tmp_path)
    assert is_alive(pid)
    program.interrupt(number)
    wait_until(lambda: not is_alive(pid))


def test_an_inspector_that_fails_says_why_and_the_server_goes_on(
    start: Callable[..., Program], tmp_path: Path
) -> None:
    program = start(FAILING)
    url = url_of(program)
    program.wait_for("the Inspector has ended, and the server goes on")
    assert program.wait_for("no such package").endswith(r"\x1b[31m")
    _check_it_reloads(program, url, tmp_path)


def test_without_node_it_says_so_in_a_line_and_serves(
    start: Callable[..., Program], tmp_path: Path
) -> None:
    program = start(NPX, path=str(tmp_path))
    program.wait_for("npx is not on the PATH, so there is no Inspector")
    _check_it_reloads(program, url_of(program), tmp_path)


def test_nobody_has_to_have_an_inspector(start: Callable[..., Program], tmp_path: Path) -> None:
    program = start(NPX, "--no-inspector")
    url = url_of(program)
    _check_it_reloads(program, url, tmp_path)
    program.interrupt()
    assert "nspector" not in program.finish().err
    assert not (tmp_path / "pid").exists()


def _check_it_reloads(program: Program, url: str, place: Path) -> None:
    import asyncio

    async def tools() -> list[str]:
        async with Client(url) as client:
            return [tool.name for tool in (await client.list_tools()).tools]

    added = "@mcp.tool()\ndef fresh() -> str:\n    return 'new'\n"
    (place / "code" / "server.py").write_text(f"{SERVER}\n\n{added}")
    program.wait_for("the new code answers")
    assert "fresh" in asyncio.run(tools())


def test_stdio_has_no_inspector(start: Callable[..., Program]) -> None:
    done = start(NPX, "--stdio").finish()
    assert done.code == 2
    assert "dev serves over HTTP" in done.err

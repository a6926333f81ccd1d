"""A newcomer's path, in an empty directory with an empty environment, from the built wheel.

Install it, write the README's tool, run it, connect the official client, see progress; break the
code, read why, mend it; watch a call from another terminal, find it among the failed ones with its
reason, and in the log by its reference.
"""

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mcp import Client
from tests.deploy.proxies import CHECKOUT
from tests.kit.waits import PATIENCE, until

UV = CHECKOUT / ".tools" / ".venv" / "bin" / "uv"

FAILING = """

@mcp.tool()
def look_up(customer: str) -> str:
    \"\"\"Look up a customer.\"\"\"
    raise KeyError("customer_id")
"""

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]


class Newcomer:
    """A person with a terminal in an empty directory."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.env = {"PATH": f"{place / 'venv' / 'bin'}:/usr/bin:/bin", "HOME": str(place)}

    def run(self, *command: str) -> tuple[int, str, str]:
        done = subprocess.run(
            command, cwd=self.place, env=self.env, timeout=PATIENCE * 3,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def must(self, *command: str) -> str:
        code, out, err = self.run(*command)
        assert code == 0, out + err
        return out


@pytest.fixture
def newcomer(tmp_path: Path) -> Newcomer:
    def uv(*words: str) -> None:
        """Run uv, which reaches the registry in this machine's own way."""
        subprocess.run([str(UV), *words], cwd=tmp_path, check=True, timeout=300)

    uv("build", "-q", "--wheel", "-o", "wheel", str(CHECKOUT))
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    uv("venv", "-q", "--python", sys.executable, "venv")
    uv("pip", "install", "-q", "--python", "venv", f"headway[reload] @ {wheel.as_uri()}")

    return Newcomer(tmp_path)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "server.log"


def wait_for_line(process: subprocess.Popen[bytes], log: Path, text: str) -> str:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        for line in log.read_text().splitlines():
            if text in line:
                return line
        time.sleep(0.05)
    raise AssertionError(f"{text!r} is not in {log.read_text()!r}")


@pytest.fixture
def server(newcomer: Newcomer, log: Path) -> Iterator[str]:
    """The README's server, with reload; its URL."""
    readme = (CHECKOUT / "README.md").read_text()
    (code,) = re.findall(r"```python\n(# server.py\n.*?)```", readme, re.DOTALL)
    (newcomer.place / "server.py").write_text(code)
    command = ["headway", "run", "server.py:mcp", "--port", "0", "--reload"]
    with log.open("w") as written:
        process = subprocess.Popen(
            command, cwd=newcomer.place, env=newcomer.env, stdout=written, stderr=written
        )
    try:
        line = wait_for_line(process, log, "serving reports at ")
        yield line.split(" at ")[1].split(",")[0]
    finally:
        process.terminate()
        process.wait(PATIENCE)


async def test_from_nothing_to_a_failed_call_that_is_found_again(
    newcomer: Newcomer, server: str, log: Path
):
    texts = newcomer.place / "texts"
    texts.mkdir()
    (texts / "a.txt").write_text("one\ntwo\n")
    seen: list[tuple[float, float | None]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total))

    async with Client(server) as client:
        counted = await client.call_tool(
            "line_counts", {"directory": str(texts)}, progress_callback=on_progress
        )
        assert counted.structured_content == {"a.txt": 2}
        assert seen[-1] == (1, 1)

        code = newcomer.place / "server.py"
        right = code.read_text()
        code.write_text(right + "def (\n")
        await until(lambda: "SyntaxError" in log.read_text())
        await until(lambda: "what was loaded before goes on" in log.read_text())
        told = await client.call_tool("line_counts", {"directory": str(texts)})
        assert "SyntaxError" in str(told.content[-1])

        code.write_text(right + FAILING)
        await until(lambda: "the new code answers" in log.read_text())
        failed = await client.call_tool("look_up", {"customer": "7"})
        assert failed.is_error

    listed = newcomer.must("headway", "runs", "--failed")
    (row,) = [line for line in listed.splitlines() if "look_up" in line]
    assert "Error executing tool look_up" in row
    logged = await asyncio.to_thread(log.read_text)
    (reference,) = set(re.findall(r"call (\S+) look_up", logged))
    assert reference in row
    assert "KeyError: 'customer_id'" in logged
    assert "look_up" in newcomer.must("headway", "show", reference)
    code_of_watch, _, shown = await asyncio.to_thread(newcomer.run, "headway", "watch", reference)
    assert code_of_watch == 1
    assert "Error executing tool look_up" in shown

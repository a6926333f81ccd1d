"""Every example runs as its docstring says, and those of the mission fit on a page."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from tests.kit.waits import PATIENCE

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

PAGE = 66
"""Lines of a printed page."""


@dataclass(frozen=True)
class Called:
    result: Any
    shown: list[str]

    @property
    def parts(self) -> list[Any]:
        return [json.loads(line[2:]) for line in self.shown if line.startswith("+ ")]

    @property
    def progress(self) -> list[str]:
        return [line.split("]")[0] + "]" for line in self.shown if line.startswith("[")]


def call(target: str, *arguments: str) -> Called:
    """`headway call` as a user would type it, in the project's directory."""
    done = subprocess.run(
        [sys.executable, "-m", "headway", "call", target, *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    try:
        result = json.loads(done.stdout)
    except ValueError:
        result = done.stdout.strip()
    return Called(result, done.stderr.splitlines())


def test_the_files_example_hashes_a_directory(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    called = call("examples/files.py:mcp", "hash_files", f"directory={tmp_path}")
    assert called.result == {"files": 2, "unreadable": 0, "bytes": 2}
    assert [value["file"] for value in called.parts] == ["a", "b"]
    assert called.parts[0]["sha256"].startswith("ca978112ca1b")
    assert (called.progress[0], called.progress[-1]) == ("[0/2]", "[2/2]")


def test_the_search_example_answers_with_its_sources() -> None:
    called = call("examples/search.py:mcp", "search", "query=rain", "deadline=30")
    assert set(called.result) == {"documents", "archive"}
    assert [value["source"] for value in called.parts] == ["documents", "archive"]
    assert any("broken" in line for line in called.shown)
    assert called.progress[-1] == "[3/3]"


def test_the_search_example_answers_at_its_deadline() -> None:
    called = call("examples/search.py:mcp", "search", "query=rain", "deadline=0")
    assert called.result == {}
    assert called.progress[-1] == "[3/3]"


class _Flaky(BaseHTTPRequestHandler):
    answers: tuple[int, ...] = (503, 200)
    asked = 0

    def do_GET(self) -> None:
        status = self.answers[min(_Flaky.asked, 1)]
        _Flaky.asked += 1
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def flaky() -> Iterator[str]:
    """A server that fails once."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Flaky) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def test_the_batch_example_tries_a_failing_link_again() -> None:
    with flaky() as url:
        urls = json.dumps({"urls": [url, "nonsense"]})
        called = call("examples/batch.py:mcp", "check_links", "--json", urls)
    assert called.result == {"ok": 1, "failed": 1}
    assert {"url": url, "status": 200} in called.parts
    assert called.progress[-1] == "[2/2]"


def test_the_long_task_example_takes_its_steps() -> None:
    arguments = ("long_task", "steps=3", "seconds_per_step=0.01")
    called = call("examples/long_task.py:mcp", *arguments)
    assert called.result == "3 steps done"
    assert called.progress[-1] == "[3/3]"


@pytest.mark.parametrize("kind", ["fastmcp", "mcpserver"])
def test_the_example_of_an_unchanged_server_works(kind: str) -> None:
    called = call(f"examples/unchanged_{kind}.py:mcp", "countdown", "start=3")
    assert called.result == "Lift-off"
    assert called.progress[-1] == "[3/3]"


@pytest.mark.anyio
async def test_the_fastapi_example_serves_its_tools() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "uvicorn", "examples.in_fastapi:app", "--port", "0",
        cwd=ROOT, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            while True:
                line = (await process.stderr.readline()).decode()
                assert line, "uvicorn ended"
                if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                    break
        texts = json.dumps({"texts": ["one two", "three"]})
        arguments = (f"{found[0]}/tools/mcp", "count_words", "--json", texts)
        called = await asyncio.to_thread(call, *arguments)
        assert called.result == 3
        assert called.progress[-1] == "[2/2]"
    finally:
        process.terminate()
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() in (0, -15)


@pytest.mark.parametrize("name", ["files", "search", "batch", "long_task"])
def test_the_mission_s_examples_fit_on_a_page(name: str) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= PAGE


def test_every_example_is_tested() -> None:
    tested = Path(__file__).read_text()
    for path in EXAMPLES.glob("*.py"):
        assert path.stem.removeprefix("unchanged_") in tested, path.name

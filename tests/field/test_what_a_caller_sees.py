"""An author who calls his own file sees why it fails, and everybody sees the result."""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.kit.program import programs_in

from headway.cli.display.printable import write_anything
from headway.cli.log_output.tracebacks import folded_traceback

SERVER = """
from headway import Headway, track
mcp = Headway("s")

def load(path):
    return open(path).readlines()

@mcp.tool()
def rows(path: str) -> int:
    for each in track([path]):
        return len(load(each))

@mcp.tool()
async def later() -> int:
    try:
        load("/first.csv")
    except OSError as error:
        raise ValueError("second") from error

@mcp.tool()
def say() -> str:
    return "done \\u2713 \\u65e5\\u672c \\udce9"

@mcp.tool()
def data() -> dict[str, str]:
    return {"text": "done \\u2713 \\u65e5\\u672c"}
"""


def test_what_a_tool_raised_is_shown_from_the_authors_first_frame_on(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(SERVER)
    with programs_in(tmp_path) as programs:
        short = programs.run("call", "s.py:mcp", "rows", "path=/nowhere.csv")
        chained = programs.run("call", "s.py:mcp", "later")
        whole = programs.run("call", "s.py:mcp", "rows", "path=/nowhere.csv", "--debug")
    assert (short.code, short.out) == (1, "")
    assert "FileNotFoundError: [Errno 2] No such file or directory: '/nowhere.csv'" in short.err
    assert 's.py", line 11, in rows' in short.err
    assert 's.py", line 6, in load' in short.err
    assert "site-packages" not in short.err
    assert "headway/api" not in short.err
    assert "'/first.csv'" in chained.err
    assert "ValueError: second" in chained.err
    assert "UnexpectedToolError" not in chained.err
    assert "site-packages/mcp/server" in whole.err


def test_what_a_tool_raised_is_logged_so_by_a_server_too(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(SERVER)
    with programs_in(tmp_path) as programs:
        server, url = programs.serve("run", "s.py:mcp", "--port", "0", "--journal", "memory:")
        programs.run("call", url, "rows", "path=/nowhere.csv")
        server.interrupt()
        log = server.finish().err
    assert "FileNotFoundError" in log
    assert 's.py", line 6, in load' in log
    assert "site-packages" not in log


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii"])
def test_a_result_is_printed_whatever_the_encoding_of_stdout(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "s.py").write_text(SERVER)
    env = {"PYTHONIOENCODING": encoding}
    with programs_in(tmp_path) as programs:
        text = programs.run("call", "s.py:mcp", "say", env=env)
        data = programs.run("call", "s.py:mcp", "data", "--output", "json", env=env)
        listed = programs.run("tools", "s.py:mcp", env=env)
    assert (text.code, text.out) == (0, "done \\u2713 \\u65e5\\u672c \\ufffd\n")
    assert json.loads(data.out)["structuredContent"] == {"text": "done ✓ 日本"}
    assert listed.code == 0


def test_an_encoding_that_was_chosen_with_its_errors_is_left_alone() -> None:
    chosen = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="replace")
    write_anything(chosen)
    assert chosen.errors == "replace"
    write_anything(io.StringIO())  # has nothing to set up
    write_anything(None)


def test_a_traceback_of_a_group_and_of_threads_is_folded_everywhere() -> None:
    def fail() -> None:
        raise KeyError("inner")

    def work() -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(fail).result()

    text = ""
    try:
        try:
            work()
        except KeyError as error:
            raise ExceptionGroup("two", [error, ValueError("other")]) from error
    except ExceptionGroup as group:
        text = folded_traceback(group)
    assert "KeyError: 'inner'" in text
    assert "in fail" in text
    assert "ValueError: other" in text


def test_a_fault_of_our_own_is_shown_whole() -> None:
    try:
        json.loads("{")
    except ValueError as error:
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
        assert "json/decoder.py" in folded_traceback(error)

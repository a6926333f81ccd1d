"""What a client or a tool says neither drives a terminal nor forges a line, of a list or a log."""

import io
import logging
from typing import Any

import pytest

from headway.cli.commands.list_tools import _lines
from headway.cli.display.call_display import Lines, log_line
from headway.cli.display.printable import json_text, one_line, plain
from headway.cli.exit_codes import report_line
from headway.cli.journal_access.run_table import ListedRun, table_lines
from headway.cli.log_output.line_format import LineFormatter
from headway.protocol.run_for_people import RunSummary, RunTimes
from headway.run_state import State

EVIL = (
    "\x1b]0;PWNED\x07\x1b[2J\x9b31m\u202egpj.exe\u2066\r\n"
    "fake-run  completed  nothing\u2028to see\x85"
)
DRIVES = ("\x1b", "\x07", "\x9b", "\r", "\u202e", "\u2066")


def is_harmless(text: str) -> bool:
    return not any(char in text for char in DRIVES)


def test_a_row_of_runs_is_one_row_whatever_the_tool_is_called() -> None:
    run = RunSummary(
        stream="run/o/x", state=State.FAILED, method="tools/call", tool=EVIL, caller=EVIL,
        client=EVIL, server=EVIL, times=RunTimes(1.0, 1.0, 2.0), progress=1.0, total=None,
        message=EVIL, attempt=1, arguments=[], follows="", error=EVIL,
    )  # fmt: skip
    for width in (None, 80, 10_000):
        _header, line = table_lines([ListedRun(run, "j")], 2.0, width)
        assert is_harmless(line)
        assert len(line.splitlines()) == 1
        assert "\\x1b]0;PWNED" in line  # it is told, and not left out


def test_a_record_of_the_log_is_one_line_and_its_traceback_cannot_pass_for_another() -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(LineFormatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("tool")
    logger.addHandler(handler)
    try:
        raise RuntimeError(f"{EVIL}\nERROR tool: forged")
    except RuntimeError:
        logger.exception("failed: %s", EVIL)
    finally:
        logger.removeHandler(handler)
    lines = out.getvalue().split("\n")
    assert is_harmless(out.getvalue().replace("\n", ""))
    assert [line for line in lines if line and not line.startswith(" ")] == [lines[0]]
    assert any("ERROR tool: forged" in line for line in lines)


def test_a_call_shows_no_line_that_a_server_has_forged() -> None:
    out = io.StringIO()
    lines = Lines(out)
    lines.progress(1, 2, EVIL)
    lines.line(log_line(None, "info", f"{EVIL}\n+ forged"))
    lines.line(log_line("headway.part", "info", "part\n[2/2] done"))
    shown = out.getvalue()
    assert is_harmless(shown)
    assert [line[:5] for line in shown.split("\n") if not line.startswith("  ")] == [
        "[1/2]", "info:", "+ par", "",
    ]  # fmt: skip


def test_what_a_server_refuses_with_does_not_drive_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report_line(f"no: {EVIL}")
    assert is_harmless(capsys.readouterr().err)


def test_a_name_of_a_tool_is_one_line_of_the_list() -> None:
    from mcp_types import Tool

    tool = Tool(
        name=f"evil{EVIL}",
        description="What it does.\nsearch\n    query: string",
        input_schema={"type": "object", "properties": {f"a{EVIL}": {"description": "x\nforged"}}},
    )
    shown = list(_lines(tool))
    assert is_harmless("".join(shown))
    starts = [line for text in shown for line in text.split("\n") if not line.startswith(" ")]
    assert len(starts) == 1


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii"])
def test_json_is_valid_and_harmless_in_any_encoding(encoding: str) -> None:
    import json

    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    value = {"text": f"✓ 日本 {EVIL} \udce9"}
    text = json_text(value, out)
    out.write(text)
    assert json.loads(text) == value
    assert is_harmless(text)


def test_text_that_only_goes_from_right_to_left_is_left_alone() -> None:
    assert plain("שלום، عالم") == one_line("שלום، عالم") == "שלום، عالم"


@pytest.mark.parametrize("level", ["info", "debug"])
def test_the_log_of_a_server_is_written_so(level: str, capsys: Any) -> None:
    from headway.cli.log_output import setup

    root = logging.getLogger()
    before, level_before = root.handlers[:], root.level
    try:
        setup.configure_logging(level)
        logging.getLogger("headway.test").warning("run %s", EVIL)
        for handler in root.handlers:
            handler.flush()
        shown = capsys.readouterr().err
    finally:
        root.handlers[:] = before
        root.setLevel(level_before)
        for name in setup.QUIET_LOGGERS:
            logging.getLogger(name).setLevel(logging.NOTSET)
    assert "PWNED" in shown
    assert is_harmless(shown)
    assert len(shown.splitlines()) == 1

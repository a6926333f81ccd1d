"""What is shown of a call."""

import io

import pytest
from rich.console import Console

from headway.cli.display.call_display import Lines, log_line, plain
from headway.cli.display.progress_bar import Bar
from headway.cli.display.quantities import count


@pytest.mark.parametrize(
    ("value", "text"), [(37, "37"), (37.0, "37"), (37.5, "37.5"), (37.0000001, "37"), (0, "0")]
)
def test_a_number_reads_as_people_write_it(value: float, text: str):
    assert count(value) == text


def test_lines_align_the_amount_with_the_total():
    out = io.StringIO()
    with Lines(out) as lines:
        lines.progress(37, 120, "Hashing setup.py")
        lines.progress(120, 120, None)
    assert out.getvalue() == "[ 37/120] Hashing setup.py\n[120/120]\n"


def test_lines_without_a_total_show_the_amount():
    out = io.StringIO()
    Lines(out).progress(37, None, "Reading")
    assert out.getvalue() == "[37] Reading\n"


def test_a_heartbeat_that_reads_the_same_is_not_repeated():
    out = io.StringIO()
    lines = Lines(out)
    lines.progress(1, 2, "Waiting")
    lines.progress(1.000001, 2, "Waiting")
    assert out.getvalue() == "[1/2] Waiting\n"


def test_a_part_is_marked_and_a_log_says_its_level():
    assert log_line("headway.part", "info", {"file": "ä"}) == '+ {"file": "ä"}'
    assert log_line("headway.part", "info", "text") == "+ text"
    assert log_line(None, "warning", "low disk") == "warning: low disk"


def test_a_server_cannot_drive_the_terminal():
    assert plain("a\x1b[2Jb\x07\x9bc\r\td\n") == "a[2Jbc\td\n"


def _bar() -> tuple[Bar, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, color_system=None)
    return Bar("Calling count", console), out


@pytest.mark.anyio
async def test_the_bar_shows_message_and_amount_and_prints_lines_above():
    bar, out = _bar()
    with bar:
        bar.progress(1, 3, "Step [one]")
        bar.line("+ [red]part")
        bar.progress(3, 3, None)
    shown = out.getvalue()
    assert "Step [one]" in shown
    assert "+ [red]part" in shown
    assert "3/3" in shown


@pytest.mark.anyio
async def test_a_thousand_lines_do_not_draw_the_bar_a_thousand_times():
    bar, out = _bar()
    with bar:
        bar.progress(1, 2, "Working")
        for number in range(1000):
            bar.line(f"+ part {number}")
    shown = out.getvalue()
    assert [line for line in shown.splitlines() if "part 999" in line]
    assert shown.count("Working") < 100


def test_the_bar_gives_the_terminal_away_for_a_question():
    bar, out = _bar()
    with bar:
        with bar.aside():
            before = len(out.getvalue())
            bar.progress(1, 3, "hidden for now")
            assert len(out.getvalue()) == before
        bar.progress(2, None, "visible again")
    assert "visible again" in out.getvalue()

"""Pictures of a call on a terminal: what a person sees, in any width."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console
from tests.kit.program import Programs
from tests.kit.screen import Screen
from tests.kit.terminal import Terminal

from headway.cli.display import quantities
from headway.cli.display.part_lines import KEPT, SHOWN_AT_ONCE, PartLines, cut_line, fold_lines
from headway.cli.display.progress_bar import Bar
from headway.cli.display.progress_line import ASCII, UNICODE, CallProgress, Ending, ProgressLine
from headway.cli.exit_codes import Cancelled, ToolFailed

LONG = "Hashing src/headway/engine/run/run_output.py"


def hashing(upto: int = 7) -> CallProgress:
    progress = CallProgress("Calling work", started=0.0)
    for second in range(1, upto + 1):
        progress.advance(second * 5, 120, LONG, float(second))
    return progress


@pytest.mark.parametrize(
    ("width", "picture"),
    [
        (100, f"⠴ {LONG} ━━╸─────── 35/120 5.0/s 7 s, about 16 s left"),
        (80, "⠴ Hashing src/headway/engine/run/run…  ━━╸───────  35/120  7 s, about 16 s left"),
        (60, "⠴ Hashing src/headway/engine…  35/120  7 s, about 16 s left"),
        (40, "⠴ Hashing src/headway/engi…  35/120  7 s"),
        (24, "⠴ Hashing …  35/120  7 s"),
    ],
)  # fmt: skip
def test_where_it_is_narrow_the_rate_goes_first_then_the_bar_and_never_the_message(
    width: int, picture: str
):
    shown = ProgressLine(UNICODE).draw(hashing(), width, 7.5).plain
    assert len(shown) <= width
    assert " ".join(shown.split()) == " ".join(picture.split())


def drawn(progress: CallProgress, now: float) -> str:
    return " ".join(ProgressLine(UNICODE).draw(progress, 70, now).plain.split())


def test_a_share_is_percent_and_not_whole_before_the_call_is():
    progress = CallProgress("Calling work", started=0.0)
    progress.advance(0.5, 1, "Fetch · page 6", 1.0)
    assert drawn(progress, 1.5) == "⠴ Fetch · page 6 ━━━━━━━━╸──────── 50 % 1 s"
    progress.advance(1, 1, "Fetch · 10 done", 3.0)
    assert "✓" not in drawn(progress, 3.5)
    assert "99 %" in drawn(progress, 3.5)
    progress.advance(3, 4, "Compute · 6 of 10", 4.0)
    assert "75 %" in drawn(progress, 4.5)
    progress.end(Ending.DONE, 5.0)
    assert drawn(progress, 9.0) == "✓ Compute · 6 of 10 ━━━━━━━━━━━━╸──── 75 % 5 s"


@pytest.mark.parametrize(
    ("ending", "mark"), [(Ending.DONE, "✓"), (Ending.FAILED, "✗"), (Ending.CANCELLED, "■")]
)
def test_the_end_has_a_mark_and_no_forecast(ending: Ending, mark: str):
    progress = hashing()
    progress.end(ending, 8.0)
    progress.end(Ending.DONE, 9.0)
    shown = drawn(progress, 20.0)
    assert shown.startswith(f"{mark} Hashing")
    assert shown.endswith(" 35/120 8 s")


def test_without_a_total_something_moves_until_the_end():
    progress = CallProgress("Calling work", started=0.0)
    progress.advance(19, None, "row 19", 1.0)
    assert drawn(progress, 1.5) != drawn(progress, 2.5)
    progress.end(Ending.DONE, 3.0)
    assert drawn(progress, 9.0) == "✓ row 19 19 3 s"


def test_columns_do_not_move_when_a_rate_comes_or_a_number_grows():
    line, progress = ProgressLine(UNICODE), CallProgress("Calling work", started=0.0)
    pictures: list[str] = []
    for second in range(1, 9):
        progress.advance(second, 10, "Hashing", float(second))
        pictures.append(line.draw(progress, 100, second + 0.5).plain)
    assert "left" not in pictures[0]
    assert "1.0/s    4 s, about 6 s left" in pictures[3]
    assert len({(picture.index("━"), picture.index("/10")) for picture in pictures}) == 1


@pytest.mark.parametrize("width", range(1, 130, 3))
@pytest.mark.parametrize("message", ["short", LONG, "データを処理しています" * 4])
def test_a_line_is_never_wider_than_the_terminal(width: int, message: str):
    progress = hashing()
    progress.message = message
    assert ProgressLine(UNICODE).draw(progress, width, 7.5).cell_len <= width


def test_a_terminal_without_unicode_gets_plain_characters():
    line = ProgressLine(ASCII)
    assert line.draw(hashing(), 80, 7.5).plain.isascii()


@pytest.mark.parametrize(
    ("value", "total", "shown"),
    [
        (37, 120, "37/120"),
        (966367638, 1073741824, "966M/1.07G"),
        (0, 2e6, "0/2M"),
        (7362, 12933, "7362/12933"),
        (37.5, None, "37.5"),
    ],
)
def test_large_numbers_have_prefixes(value: float, total: float | None, shown: str):
    assert quantities.amount(value, total) == shown


def test_times_are_written_as_people_say_them():
    assert [quantities.seconds(value) for value in (3.9, 65, 3725)] == [
        "3 s",
        "1 min 5 s",
        "1 h 2 min",
    ]
    assert [quantities.about(value) for value in (0.2, 6.4, 100, 10000)] == [
        "1 s",
        "6 s",
        "2 min",
        "3 h",
    ]


# Parts


def test_few_parts_are_all_shown_and_of_many_the_newest():
    parts, shown = PartLines(0.0), list[str]()
    for number in range(500):
        shown += parts.offer(f"+ {number}", 0.001 * number)
    assert shown[:SHOWN_AT_ONCE] == [f"+ {number}" for number in range(SHOWN_AT_ONCE)]
    assert len(shown) < SHOWN_AT_ONCE + 5
    pending = parts.pending()
    assert pending[-1] == "+ 499"
    assert pending[0] == f"… {500 - len(shown) - KEPT} more; --parts all shows them"
    assert parts.flush() == pending
    assert parts.flush() == []
    assert parts.offer("+ later", 100.0) == ["+ later"]


def test_a_part_is_cut_and_a_message_is_folded_with_an_indent():
    assert cut_line("+ abcdefghij", 8) == "+ abcde…"
    assert cut_line("+ one\ntwo", 80) == "+ one…"
    assert fold_lines("warning: abcdefgh\nsecond", 12) == ["warning: abc", "  defgh", "  second"]


# The whole screen


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def bar(width: int, clock: Clock, screen: list[str]) -> Iterator[Bar]:
    """A bar, and what is on the screen when it has ended."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, color_system=None)
    try:
        with Bar("Calling work", console, clock=clock) as shown:
            yield shown
    except (ToolFailed, Cancelled):
        pass
    screen += Screen(width).feed(out.getvalue()).rows


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("error", "mark"), [(None, "✓"), (ToolFailed("no"), "✗"), (Cancelled("cancelled"), "■")]
)
async def test_what_is_left_on_the_screen(error: Exception | None, mark: str):
    clock, screen = Clock(), list[str]()
    with bar(40, clock, screen) as shown:
        shown.part('+ {"file": "a.txt", "sha256": "684888c0ebb17f374298b65ee2807526c"}')
        shown.line("warning: the disk is nearly full, and has been so for days")
        clock.now = 3.0
        shown.progress(3, 8, "3 done")
        if error is not None:
            raise error
    assert screen == [
        '+ {"file": "a.txt", "sha256": "684888c0…',
        "warning: the disk is nearly full, and ha",
        "  s been so for days",
        f"{mark} 3 done            ━━━╸──────  3/8  3 s",
    ]


@pytest.mark.anyio
async def test_hundreds_of_parts_leave_a_screen_that_can_be_read():
    clock, screen = Clock(), list[str]()
    with bar(60, clock, screen) as shown:
        for number in range(500):
            shown.part(f"+ part {number}")
        shown.progress(500, 500, "500 done")
    assert len(screen) == SHOWN_AT_ONCE + 1 + KEPT + 1
    assert screen[SHOWN_AT_ONCE] == "… 477 more; --parts all shows them"
    assert screen[-2:] == ["+ part 499", f"✓ 500 done{' ' * 21}━━━━━━━━━━━━━━━  500/500  0 s"]


@pytest.mark.anyio
async def test_a_picture_that_is_drawn_beside_a_print_is_taken_away(
    monkeypatch: pytest.MonkeyPatch,
):
    """Rich draws in a thread of its own: one drawing in the middle of a print stayed there."""
    monkeypatch.setattr("headway.cli.display.progress_bar.REDRAWS", 2000)
    for _ in range(100):
        clock, screen = Clock(), list[str]()
        with bar(60, clock, screen) as shown:
            for number in range(100):
                shown.part(f"+ part {number}")
            shown.progress(100, 100, "100 done")
        assert sum("100 done" in row for row in screen) == 1


@pytest.mark.parametrize("columns", [24, 40, 80])
@pytest.mark.parametrize("colour", ["", "1"])
def test_a_call_on_a_terminal(served_example: str, tmp_path: Path, columns: int, colour: str):
    env = {"NO_COLOR": colour} if colour else {}
    call = ("call", served_example, "count", "steps=12")
    with Terminal(*call, home=tmp_path, columns=columns, env=env) as terminal:
        assert terminal.finish() == 0
        rows = Screen(columns).feed(terminal.shown).rows
    assert '+ {"file": "a.txt"}' in rows
    assert rows[-1] == "counted to 12"
    assert rows[-2].startswith("✓ Step 12")
    assert "12/12" in rows[-2]
    assert not any(row[0] in UNICODE.spinner for row in rows if row)
    assert ("\x1b[3" in terminal.shown) != bool(colour)


def test_a_failed_call_on_a_terminal(served_example: str, tmp_path: Path):
    with Terminal("call", served_example, "broken", home=tmp_path, columns=80) as terminal:
        assert terminal.finish() == 1
        rows = Screen(80).feed(terminal.shown).rows
    assert rows[-2].startswith("✗ Row 3")
    assert rows[-1].startswith("headway: ")


def test_a_dumb_terminal_gets_plain_lines(served_example: str, tmp_path: Path):
    call = ("call", served_example, "count", "steps=12")
    with Terminal(*call, home=tmp_path, columns=80, env={"TERM": "dumb"}) as terminal:
        assert terminal.finish() == 0
        rows = Screen(80).feed(terminal.shown).rows
    assert "[12/12] Step 12" in rows
    assert "\x1b" not in terminal.shown


def test_a_pipe_gets_long_messages_cut(programs: Programs, served_example: str):
    finished = programs.run("call", served_example, "chatty")
    assert finished.code == 0
    assert max(map(len, finished.err.splitlines())) < 200
    assert "…" in finished.err

"""A program's output as lines, and where these are sent.

Bytes in any pieces go in; text of bounded length comes out, whatever the program writes: no line
ends, no UTF-8, colours, a million lines.
"""

import asyncio
import re
import time
from codecs import getincrementaldecoder
from collections.abc import Iterator
from enum import Enum, auto
from typing import Literal

from headway.api.output import log, part
from headway.api.progress import report
from headway.api.subprocesses.progress_in_lines import Found, Parts, Scan, find_progress

Sink = Literal["log", "part"] | None

LONGEST_LINE = 16_384
"""Characters of a line; the rest of a longer one is left out."""

LINES_A_SECOND = 50
BURST = 200
"""Lines given out at once before `LINES_A_SECOND` counts. The output itself is not thinned."""

OUT = "info"
"""The level of what a program writes to stdout."""

ERR = "notice"

SOME = 20
"""Lines for which there must be room before lines are given out again, once some were left out."""

BLOCK = 65_536
"""Characters of a part that is made of several lines."""

LONGEST_MESSAGE = 200

TALLEST = 100
"""Lines that may be drawn over: no screen has more."""

_UP = re.compile(r"\x1b\[(\d{0,3})[AF]")
"""The cursor goes up (ECMA-48, 8.3.12 and 8.3.22): the next lines are drawn over these."""

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


class Kind(Enum):
    """The kind of a piece of text."""

    LINE = auto()
    OVERWRITTEN = auto()
    """A carriage return follows: a progress bar's last state but one."""
    OPEN = auto()
    """Nothing follows yet; the same text comes again, longer."""


class Lines:
    """A parser that cuts chunks of bytes into lines."""

    def __init__(self, encoding: str) -> None:
        self._decoder = getincrementaldecoder(encoding)(errors="replace")
        self._rest = ""
        self._is_long = False
        self._above = 0  # lines from where the cursor is to where the newest line ends

    def feed(self, data: bytes, *, final: bool = False) -> Iterator[tuple[Kind, str]]:
        """Yield the texts that this chunk completes; with `final` the last line ends here too."""
        text = self._rest + self._decoder.decode(data, final)
        held = ""
        if text.endswith("\r") and not final:  # perhaps half a line end
            text, held = text[:-1], "\r"
        *whole, rest = text.replace("\r\n", "\n").split("\n")
        for line in whole:
            yield from self._finished_line(line, Kind.LINE)
            self._is_long = False
        *overwritten, rest = rest.split("\r")
        if overwritten:
            yield from self._finished_line("\r".join(overwritten), Kind.OVERWRITTEN)
            self._is_long = False
        if final:
            self._rest = ""
            if rest:
                yield from self._finished_line(rest, Kind.LINE)
        elif len(rest) > LONGEST_LINE:
            yield from self._finished_line(rest, Kind.LINE)
            self._rest, self._is_long = held, True
        else:
            self._rest = rest + held
            if rest and not self._is_long:
                yield Kind.OPEN, without_escapes(rest)

    def _finished_line(self, text: str, kind: Kind) -> Iterator[tuple[Kind, str]]:
        up = sum(int(lines or 1) for lines in _UP.findall(text))
        self._above = min(self._above + up, TALLEST)
        if self._above and kind is Kind.LINE:
            # Bars of several lines are drawn again and again: only the first time is news.
            self._above -= 1
            kind = Kind.OVERWRITTEN
        if self._is_long:
            return  # the rest of a line whose beginning was given out
        *overwritten, last = text.split("\r")
        for each in overwritten:
            yield Kind.OVERWRITTEN, without_escapes(each)
        yield kind, without_escapes(last)


def without_escapes(text: str) -> str:
    """Return a text without colours, and not too long."""
    if len(text) > LONGEST_LINE:
        text = f"{text[: LONGEST_LINE - 1]}…"
    return _ESCAPES.sub("", text) if "\x1b" in text else text


class LineFollower:
    """Turns a program's lines into progress, and into log messages or parts."""

    def __init__(self, sink: Sink, progress: bool | Scan) -> None:
        if sink not in _SINKS:
            raise ValueError(f"output is 'log', 'part' or None, not {sink!r}")
        self._sink: _Sink = _SINKS[sink]()
        self._scan = progress
        self._parts = Parts()
        self._seen = "", True

    def take_line(self, kind: Kind, text: str, level: str) -> None:
        """Look for progress in a text of the program, and give out what is a whole line."""
        is_whole = kind is not Kind.OPEN
        if (text, is_whole) != self._seen:
            self._seen = text, is_whole
            found = self._find_share(text, is_whole=is_whole)
            if found is not None:
                done, total = self._parts.add_share(found)
                message = text.strip()[:LONGEST_MESSAGE]
                report(round(done * 100, 6), total * 100, message or None)
        if kind is Kind.LINE and text.strip():
            self._sink.write_line(text.rstrip(), level)

    def finish(self) -> None:
        """Give out what is held."""
        self._sink.write_held()

    def _find_share(self, text: str, *, is_whole: bool) -> Found | None:
        if self._scan is True:
            return find_progress(text, is_whole=is_whole)
        if self._scan is False or not is_whole:
            return None
        said = self._scan(text)
        if isinstance(said, tuple):
            said = said[0] / said[1] if said[1] else None
        return None if said is None else Found(min(max(float(said), 0.0), 1.0), "")


class _Sink:
    """The receiver of lines; this one drops them."""

    def write_line(self, line: str, level: str) -> None: ...

    def write_held(self) -> None: ...


class _Rate:
    """A token bucket for lines."""

    def __init__(self) -> None:
        self._room = float(BURST)
        self._looked = time.monotonic()

    def take_room(self, at_least: float = 1) -> bool:
        now = time.monotonic()
        self._room = min(BURST, self._room + (now - self._looked) * LINES_A_SECOND)
        self._looked = now
        if self._room < at_least:
            return False
        self._room -= 1
        return True


class _Logs(_Sink):
    """Sends lines as log messages; if there are too many it drops some, and logs their number."""

    def __init__(self) -> None:
        self._rate = _Rate()
        self._left_out = 0

    def write_line(self, line: str, level: str) -> None:
        if not self._rate.take_room(SOME if self._left_out else 1):
            self._left_out += 1
            return
        self.write_held()
        log(line, level)

    def write_held(self) -> None:
        if self._left_out:
            log(f"… {self._left_out:,} lines left out", "info")
            self._left_out = 0


class _Parts(_Sink):
    """Sends lines of stdout as parts; joins several into one part if there are many."""

    def __init__(self) -> None:
        self._rate = _Rate()
        self._held: list[str] = []
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        self._logs = _Logs()

    def write_line(self, line: str, level: str) -> None:
        if level != OUT:
            self._logs.write_line(line, level)
            return
        self._held.append(line)
        self._size += len(line) + 1
        if self._size >= BLOCK or (self._timer is None and self._rate.take_room()):
            self._give_out()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(1 / SOME, self._give_out)

    def write_held(self) -> None:
        self._logs.write_held()
        self._give_out()

    def _give_out(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._held:
            text = "\n".join(self._held)
            self._held.clear()
            self._size = 0
            part(text)


_SINKS: dict[Sink, type[_Sink]] = {"log": _Logs, "part": _Parts, None: _Sink}

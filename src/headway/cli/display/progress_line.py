"""The line of a call on a terminal: what it shows of the progress, and how that fits a width.

```
⠹ Hashing setup.py              ━━━━━━━━━━━╸         37/120  4.8/s  8 s, about 17 s left
✓ 120 done                      ━━━━━━━━━━━━━━━━━━━ 120/120                         25 s
```

Where it is narrow the rate goes first, then the bar, then the forecast; the message stays.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from math import isfinite
from typing import Final, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from headway.cli.display import quantities

WINDOW: Final = 30.0
"""Seconds of progress that the rate is made from."""

LEAST_WINDOW: Final = 0.5
"""Seconds of progress without which there is no rate: it would jump."""

SPIN_INTERVAL: Final = 0.1

RATE_WIDTH: Final = 8
"""Columns that are kept for the rate, so that nothing moves when there is one."""

FORECAST_WIDTH: Final = 21
"""Columns that are kept for the times where there may be a forecast: `59 s, about 59 s left`."""

BAR_WIDTHS: Final = (10, 40)

MESSAGE_SHARE: Final = 0.4
"""Of the width, which the message has at least where it needs it."""

_GAP: Final = 2


class Ending(Enum):
    """The end of a call."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LEFT = "left"


class Glyphs(NamedTuple):
    """The characters of a line."""

    spinner: str
    full: str
    half: str
    more: str
    done: str
    failed: str
    cancelled: str
    left: str

    def mark(self, ending: Ending) -> str:
        """Return the mark of an ending."""
        return str(getattr(self, ending.value))


UNICODE: Final = Glyphs("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "━", "╸", "…", "✓", "✗", "■", "»")
ASCII: Final = Glyphs("-\\|/", "=", "-", "~", "+", "x", "#", ">")

STYLES: Final = {
    Ending.DONE: "green",
    Ending.FAILED: "red",
    Ending.CANCELLED: "yellow",
    Ending.LEFT: "cyan",
}


@dataclass(slots=True)
class CallProgress:
    """The progress of a call so far."""

    message: str
    started: float
    value: float = 0.0
    total: float | None = None
    is_seen: bool = False
    has_grown: bool = False
    """Whether the total became larger: then it is a share of what is known, and no count."""
    ending: Ending | None = None
    ended: float = 0.0
    _samples: deque[tuple[float, float]] = field(default_factory=deque[tuple[float, float]])

    def advance(self, value: float, total: float | None, message: str | None, now: float) -> None:
        """Take a report; a message stays until the next one."""
        known = self.total
        self.has_grown = self.has_grown or (
            None not in (known, total) and (total or 0) > (known or 0)
        )
        self.value, self.total, self.is_seen = value, total, True
        self.message = message or self.message
        self._samples.append((now, value))
        while now - self._samples[0][0] > WINDOW and len(self._samples) > 2:
            self._samples.popleft()

    def end(self, ending: Ending, now: float) -> None:
        """Take the end; only the first one counts."""
        if self.ending is None:
            self.ending, self.ended = ending, now

    @property
    def is_share(self) -> bool:
        """Return whether the total says nothing but where the whole is."""
        return self.total == 1 or self.has_grown

    def share(self) -> float | None:
        """Return how much is done, from 0 to 1; None where nobody knows."""
        if not self.total:
            return None
        return min(max(self.value / self.total, 0.0), 1.0)

    def speed(self) -> float | None:
        """Return how much is done in a second; None where that cannot be said yet."""
        if len(self._samples) < 2:
            return None
        (began, first), (ended, last) = self._samples[0], self._samples[-1]
        is_known = ended - began >= LEAST_WINDOW and last > first
        return (last - first) / (ended - began) if is_known else None

    def left(self, now: float) -> float | None:
        """Return the seconds that are left at this speed, or None."""
        speed = self.speed()
        if self.total is None or speed is None or self.value >= self.total:
            return None
        since = now - self._samples[-1][0]
        left = (self.total - self.value) / speed - since
        return max(left, 0.0) if isfinite(left) else None


@dataclass(slots=True)
class ProgressLine:
    """Draws the progress of a call; columns keep the widths that they once had."""

    glyphs: Glyphs
    _amount_width: int = 0
    _times_width: int = 0

    def draw(self, progress: CallProgress, width: int, now: float) -> Text:
        """Return the line at a time, in a width."""
        amount, rate = self._amount_of(progress), self._rate_of(progress)
        times, short = self._times_of(progress, now)
        if progress.ending is None:
            self._amount_width = max(self._amount_width, cell_len(amount))
            forecast = FORECAST_WIDTH if progress.total else 0
            self._times_width = max(self._times_width, cell_len(times), forecast)
        else:  # nothing moves any more
            self._amount_width, self._times_width = cell_len(amount), cell_len(times)
        layouts = self._layouts(progress, width, cell_len(short))
        needed = min(cell_len(progress.message), int(width * MESSAGE_SHARE))
        rooms = [_room_for_message(width, columns) for columns in layouts]
        chosen = next((i for i, room in enumerate(rooms) if room >= needed), len(layouts) - 1)
        columns, room = layouts[chosen], max(rooms[chosen], 0)
        line = self._mark(progress, now)
        line.append(" ").append(self._cut(progress.message, room))
        texts = (
            self._bar(progress, columns[0], now),
            amount,
            rate,
            times if columns[3] > cell_len(short) else short,
        )
        for text, size in zip(texts, columns, strict=True):
            if size:
                line.append(" " * _GAP).append(_right(text, size))
        line.truncate(width)
        return line

    def _layouts(
        self, progress: CallProgress, width: int, short: int
    ) -> list[tuple[int, int, int, int]]:
        """Return the widths of bar, amount, rate and times, the most wanted first."""
        least, most = BAR_WIDTHS if progress.is_seen else (0, 0)
        bars = (min(max(width // 4, least), most), least)
        amount, times = self._amount_width, self._times_width
        rates = (0,) if progress.ending or progress.is_share else (RATE_WIDTH, 0)
        layouts = [(bar, amount, rate, times) for rate in rates for bar in bars]
        return [*layouts, (0, amount, 0, times), (0, amount, 0, short), (0, amount, 0, 0)]

    def _mark(self, progress: CallProgress, now: float) -> Text:
        if progress.ending is not None:
            return Text(self.glyphs.mark(progress.ending), style=STYLES[progress.ending])
        frame = int((now - progress.started) / SPIN_INTERVAL) % len(self.glyphs.spinner)
        return Text(self.glyphs.spinner[frame], style="cyan")

    def _cut(self, text: str, room: int) -> str:
        if cell_len(text) <= room:
            return set_cell_size(text, room)
        return set_cell_size(text, max(room - 1, 0)) + self.glyphs.more[:room]

    def _amount_of(self, progress: CallProgress) -> str:
        share = progress.share()
        if not progress.is_seen:
            return ""
        if progress.is_share and share is not None:
            # A whole that grows with its parts is not done before the call is.
            most = 100 if progress.ending is Ending.DONE else 99
            return f"{min(int(share * 100), most)} %"
        return quantities.amount(progress.value, progress.total)

    def _rate_of(self, progress: CallProgress) -> str:
        speed = progress.speed()
        if speed is None or progress.is_share or progress.ending is not None:
            return ""
        return quantities.rate(speed)

    def _times_of(self, progress: CallProgress, now: float) -> tuple[str, str]:
        """Return the times, and the shorter form of them."""
        if progress.ending is not None:
            text = quantities.seconds(progress.ended - progress.started)
            return text, text
        text = quantities.seconds(now - progress.started)
        left = progress.left(now)
        return (text if left is None else f"{text}, about {quantities.about(left)} left"), text

    def _bar(self, progress: CallProgress, size: int, now: float) -> Text:
        share = progress.share()
        style = "green" if progress.ending is Ending.DONE else "cyan"
        if share is None:
            return self._pulse(progress, size, now, style)
        halves = int(share * size * 2)
        if progress.ending is not Ending.DONE:
            halves = min(halves, size * 2 - 1)
        text = self.glyphs.full * (halves // 2) + self.glyphs.half * (halves % 2)
        bar = Text(text, style=style)
        bar.append(("─" if self.glyphs is UNICODE else ".") * (size - len(text)), style="dim")
        return bar

    def _pulse(self, progress: CallProgress, size: int, now: float, style: str) -> Text:
        if progress.ending is not None or not size:
            return Text(" " * size)
        block = max(size // 4, 1)
        at = int((now - progress.started) * size / 2) % (size + block) - block
        cells = [at <= cell < at + block for cell in range(size)]
        rest = "─" if self.glyphs is UNICODE else "."
        return Text.assemble(
            *((self.glyphs.full, style) if is_lit else (rest, "dim") for is_lit in cells)
        )


def _room_for_message(width: int, columns: tuple[int, ...]) -> int:
    return width - 2 - sum(size + _GAP for size in columns if size)


def _right(text: str | Text, size: int) -> Text:
    filled = Text(" " * (size - cell_len(str(text))))
    return filled.append(text)

"""The partial results of a call on a terminal: each a line, and no more than can be read."""

from collections import deque
from typing import Final

from rich.cells import cell_len, chop_cells, set_cell_size

SHOWN_AT_ONCE: Final = 20
"""Parts that are shown however fast they come."""

SHOWN_EACH_SECOND: Final = 4.0
"""Parts that are shown of those that go on coming."""

KEPT: Final = 3
"""The newest parts that are shown where most are left out."""


class PartLines:
    """Decides which parts are shown: all while they are few, then the newest now and then."""

    def __init__(self, now: float) -> None:
        self._allowance = float(SHOWN_AT_ONCE)
        self._at = now
        self._left_out = 0
        self._newest: deque[str] = deque(maxlen=KEPT)

    def offer(self, text: str, now: float) -> list[str]:
        """Return the lines to print now that there is one more part."""
        self._allowance += (now - self._at) * SHOWN_EACH_SECOND
        self._allowance = min(self._allowance, float(SHOWN_AT_ONCE))
        self._at = now
        if self._left_out or self._allowance < 1:
            self._left_out += 1
            self._newest.append(text)
            return self.flush() if self._allowance >= KEPT + 1 else []
        self._allowance -= 1
        return [text]

    def pending(self) -> list[str]:
        """Return the lines that stand for what was left out."""
        more = self._left_out - len(self._newest)
        return [*([f"… {more:,} more; --parts all shows them"] if more else []), *self._newest]

    def flush(self) -> list[str]:
        """Return the lines that stand for what was left out, which is printed with that."""
        lines = self.pending()
        self._allowance -= len(lines)
        self._left_out = 0
        self._newest.clear()
        return lines


def cut_line(text: str, width: int, more: str = "…") -> str:
    """Return the first line of a text, cut to a width."""
    line, _, rest = text.partition("\n")
    if cell_len(line) <= width and not rest:
        return line
    return set_cell_size(line, min(cell_len(line), max(width - cell_len(more), 0))) + more


def fold_lines(text: str, width: int) -> list[str]:
    """Return a text as lines of a width; all but the first are indented, to be told from others."""
    room = max(width - 2, 1)
    lines: list[str] = []
    for line in text.split("\n"):
        first = chop_cells(line, width if not lines else room) or [""]
        lines.append(first[0] if not lines else f"  {first[0]}")
        lines += [f"  {piece}" for each in first[1:] for piece in chop_cells(each, room)]
    return lines

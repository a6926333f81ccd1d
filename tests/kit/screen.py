"""The picture of a terminal: what a person sees after a program has written to it.

It knows the few sequences that a line of progress is drawn with; any other one is an error.
"""

import re
from typing import Final

from rich.cells import cell_len

_SEQUENCE: Final = re.compile(r"\x1b\[(\??)([\d;]*)([A-Za-z])")


class Screen:
    """Rows of characters and a cursor; the rows scroll away upwards and are all kept."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._rows: list[list[str]] = [[]]
        self._row = 0
        self._column = 0

    @property
    def rows(self) -> list[str]:
        """All rows so far, without the blanks at their ends, and without empty rows at the end."""
        texts = ["".join(row).rstrip() for row in self._rows]
        while texts and not texts[-1]:
            texts.pop()
        return texts

    def feed(self, text: str) -> "Screen":
        at = 0
        while at < len(text):
            if text[at] == "\x1b":
                found = _SEQUENCE.match(text, at)
                assert found, f"an unknown sequence: {text[at : at + 10]!r}"
                self._obey(found[1], found[2], found[3])
                at = found.end()
            else:
                self._put(text[at])
                at += 1
        return self

    def _obey(self, private: str, number: str, command: str) -> None:
        match private, command:
            case "?", "h" | "l":  # the cursor is shown and hidden
                pass
            case "", "m":  # colours
                pass
            case "", "A":
                self._row = max(0, self._row - int(number or 1))
            case "", "K":
                assert number in ("2", "0", "")
                row = self._rows[self._row]
                del row[0 if number == "2" else self._column :]
            case _:
                raise AssertionError(f"an unknown sequence: {private}{number}{command}")

    def _put(self, character: str) -> None:
        match character:
            case "\r":
                self._column = 0
            case "\n":
                self._row, self._column = self._row + 1, 0
                while len(self._rows) <= self._row:
                    self._rows.append([])
            case _:
                self._write(character)

    def _write(self, character: str) -> None:
        size = cell_len(character)
        if self._column + size > self._columns:
            self._put("\n")
        row = self._rows[self._row]
        row += [" "] * (self._column + size - len(row))
        # A wide character takes the cell behind its own.
        row[self._column : self._column + size] = [character, *[""] * (size - 1)]
        self._column += size

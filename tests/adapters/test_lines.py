"""Whatever a program writes, and in whatever pieces, is lines of text."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.api.subprocesses.output_lines import LONGEST_LINE, Kind, Lines


def cut(*pieces: bytes, encoding: str = "utf-8") -> list[tuple[Kind, str]]:
    lines = Lines(encoding)
    said = [each for piece in pieces for each in lines.feed(piece)]
    return [*said, *lines.feed(b"", final=True)]


def whole(*pieces: bytes, encoding: str = "utf-8") -> list[str]:
    return [text for kind, text in cut(*pieces, encoding=encoding) if kind is Kind.LINE]


def test_lines_are_joined_from_pieces() -> None:
    assert whole(b"a\nb", b"c\r", b"\nd\r\n", b"\ne") == ["a", "bc", "d", "", "e"]
    assert whole("ä\n".encode()[:1], "ä\n".encode()[1:]) == ["ä"]
    assert whole("ä\nb".encode("utf-16-le"), encoding="utf-16-le") == ["ä", "b"]


def test_overwritten_lines_are_told_from_whole_ones() -> None:
    said = cut(b"10%\r20%\r30%\n40%\r50%")
    assert [text for kind, text in said if kind is Kind.LINE] == ["30%", "50%"]
    assert [text for kind, text in said if kind is Kind.OVERWRITTEN] == ["10%", "20%", "40%"]
    assert cut(b"\r42%")[0] == (Kind.OVERWRITTEN, "")
    assert (Kind.OPEN, "42%") in cut(b"\r42%")


def test_colours_are_removed() -> None:
    assert whole(b"\x1b[1;32mok\x1b[0m \x1b]0;title\x07done\x1b[K\n") == ["ok done"]


@pytest.mark.parametrize("size", [100, 4096, 65_536])
def test_a_line_without_end_is_given_out_once_and_not_kept(size: int) -> None:
    lines = Lines("utf-8")
    said = [each for _ in range(1_000_000 // size) for each in lines.feed(b"x" * size)]
    assert len([text for kind, text in said if kind is Kind.LINE]) == 1
    assert all(len(text) <= LONGEST_LINE for _, text in said)
    assert [text for kind, text in lines.feed(b"y\nnext\n") if kind is Kind.LINE] == ["next"]


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=6))
def test_lines_do_not_depend_on_how_the_bytes_are_cut(data: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(data)]
    pieces = [data[begin:end] for begin, end in pairwise(places) if begin <= end]
    assert whole(*pieces) == whole(data)

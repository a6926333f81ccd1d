"""`process_files` on ordinary files: what each operation says, and the summary."""

import hashlib
import os
from typing import Any

import pytest
from mcp.server.mcpserver.exceptions import ToolError

from headway.errors import RunCancelled
from headway.tools import Limits, reading


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_each_file_is_a_part_with_its_checksum_in_a_fixed_order(workplace: Any, heard: Any) -> None:
    for name in ("sub/z.txt", "b.txt", "sub/deep/y.txt", "a.txt", "another/x.txt"):
        workplace.write(name, name)
    summary = workplace.process()
    names = ["a.txt", "b.txt", "another/x.txt", "sub/z.txt", "sub/deep/y.txt"]
    assert heard.parts == [
        {"file": name, "status": "ok", "bytes": len(name), "sha256": sha256(name.encode())}
        for name in names
    ]
    assert (summary.files, summary.ok, summary.skipped, summary.failed) == (5, 5, 0, 0)
    assert summary.bytes == sum(map(len, names))
    lines = "".join(f"{sha256(name.encode())}  {name}\n" for name in names)
    assert summary.digest == sha256(lines.encode())


def test_a_directory_may_be_relative_to_the_root_or_absolute(workplace: Any) -> None:
    workplace.write("sub/a.txt")
    relative = workplace.process("sub")
    assert relative.files == 1
    assert workplace.process(str(workplace.root / "sub")) == relative
    assert relative.directory == "sub"
    assert workplace.process().directory == "."


def test_no_files_is_an_empty_summary(workplace: Any, heard: Any) -> None:
    summary = workplace.process()
    assert (summary.files, summary.bytes, summary.failures) == (0, 0, [])
    assert summary.digest == sha256(b"")
    assert heard.parts == []


def test_a_file_larger_than_a_chunk_reports_within_itself(
    workplace: Any, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "CHUNK", 4)
    content = b"0123456789"
    workplace.write("a", b"")
    workplace.write("large", content)
    workplace.process()
    assert heard.parts[1]["sha256"] == sha256(content)
    within = [(progress, total) for progress, total, _ in heard.reports if total is not None]
    assert within == [(4 / 11, 1), (8 / 11, 1)]


def test_a_cancel_stops_in_the_middle_of_a_large_file(
    workplace: Any, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancelled(progress: float, total: float | None = None, message: str | None = None) -> None:
        heard.report(progress, total, message)
        if total is not None:
            raise RunCancelled("stop")

    monkeypatch.setattr(reading, "CHUNK", 4)
    monkeypatch.setattr("headway.tools.files.report", cancelled)
    workplace.write("large", bytes(1000))
    with pytest.raises(RunCancelled):
        workplace.process()
    assert [total for _, total, _ in heard.reports if total] == [1]
    assert heard.parts == []


def test_listing_is_reported_before_the_work(workplace: Any, heard: Any) -> None:
    workplace.write("a.txt")
    workplace.process()
    assert heard.reports == [(0, None, "Listing ."), (0, None, "Listing … 1 files")]


def test_a_long_listing_says_how_far_it_is(
    workplace: Any, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headway.tools.listing.NOTICE_EVERY", 10)
    for number in range(25):
        workplace.write(f"{number}.txt")
    workplace.process()
    messages = [message for _, _, message in heard.reports]
    assert messages[1:] == ["Listing … 9 files", "Listing … 19 files", "Listing … 25 files"]


def test_stats_count_as_wc_does_and_add_up_by_type(workplace: Any, heard: Any) -> None:
    workplace.write("a.txt", "one two\nthree\nno newline")
    workplace.write("b.TXT", "four\n")
    workplace.write("Makefile", "all:\n\ttrue\n")
    workplace.write("logo.png", b"\x89PNG\0\n\n a b")
    summary = workplace.process(operation="stats")
    parts = {part.pop("file"): part for part in heard.parts}
    ok = {"status": "ok"}
    assert parts["a.txt"] == ok | {"bytes": 24, "type": "txt", "lines": 2, "words": 5}
    assert parts["Makefile"] == ok | {"bytes": 11, "type": "none", "lines": 2, "words": 2}
    assert parts["logo.png"] == ok | {"bytes": 11, "type": "png", "binary": True}
    assert {name: dict(totals) for name, totals in summary.types.items()} == {
        "txt": {"files": 2, "bytes": 29, "lines": 3, "words": 6},
        "none": {"files": 1, "bytes": 11, "lines": 2, "words": 2},
        "png": {"files": 1, "bytes": 11, "lines": 0, "words": 0},
    }
    assert next(iter(summary.types)) == "txt"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 100])
def test_a_word_across_two_chunks_is_one_word(
    workplace: Any, heard: Any, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(reading, "CHUNK", size)
    workplace.write("a.txt", "  one two\nthree\t\tfour five ")
    workplace.process(operation="stats")
    assert (heard.parts[0]["words"], heard.parts[0]["lines"]) == (5, 1)


def test_rare_types_are_added_up(workplace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.tools.operations.MAX_TYPES", 2)
    for name in ("a.py", "b.py", "c.md", "d.rst", "e.txt", "f.other"):
        workplace.write(name, "x y\n")
    types = workplace.process(operation="stats").types
    assert {name: (totals.files, totals.words) for name, totals in types.items()} == {
        "py": (2, 4),
        "md": (1, 2),
        "other": (3, 6),
    }


def test_too_large_a_file_is_skipped_by_stats_but_not_by_checksum(
    workplace: Any, heard: Any
) -> None:
    workplace.limits = Limits(stats_bytes=1000)
    sparse = workplace.write("sparse.bin")
    os.truncate(sparse, 3_000_000)
    assert workplace.process().ok == 1
    summary = workplace.process(operation="stats")
    assert heard.outcomes["sparse.bin"] == ("skipped", "larger than 1,000 bytes")
    assert summary.skipped_because == {"larger than 1,000 bytes": 1}


def test_more_files_than_allowed_is_an_error_before_any_is_read(workplace: Any, heard: Any) -> None:
    workplace.limits = Limits(files=3)
    for number in range(3):
        workplace.write(f"{number}.txt")
    assert workplace.process().ok == 3
    heard.parts.clear()
    workplace.write("sub/one-more.txt")
    with pytest.raises(ToolError, match=r"More than 3 files match.*narrower pattern"):
        workplace.process()
    assert heard.parts == []
    assert workplace.process(pattern="*").ok == 3


def test_the_summary_lists_only_the_first_failures(workplace: Any, heard: Any) -> None:
    workplace.limits = Limits(failures=2)
    for number in range(5):
        workplace.write(f"{number}.txt")
    heard.meanwhile["0.txt"] = lambda: [
        (workplace.root / f"{number}.txt").unlink() for number in range(1, 5)
    ]
    summary = workplace.process()
    assert (summary.ok, summary.failed) == (1, 4)
    assert [failure.file for failure in summary.failures] == ["1.txt", "2.txt"]

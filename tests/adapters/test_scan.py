"""Progress in lines that real programs write, and lines that only look like it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.api.subprocesses.progress_in_lines import Found, Parts, find_progress, scan_fraction


@pytest.mark.parametrize(
    ("line", "share"),
    [
        ("Receiving objects:  42% (420/1000), 1.20 MiB | 3.00 MiB/s", 0.42),
        (" 45%|████▌     | 9/20 [00:01<00:01,  8.5it/s]", 0.45),
        ("[ 12%] Building CXX object src/a.cpp.o", 0.12),
        ("     1,024,000  37.5%    1.10MB/s    0:00:12", 0.375),
        ("frame= 10 fps=25 42.5 % done", 0.425),
        ("Step 3/12 : RUN make", 0.25),
        ("(3 of 12) Installing tree", 0.25),
        ("[3/12] cc -c main.c", 0.25),
        ("1,024/2,048 rows", 0.5),
        ("   ━━━━━━━━ 1.2/2.4 MB 5.0 MB/s eta 0:00:01", 0.5),
        ("a1b2c3: Downloading [==>   ]  5.5MB/11MB", 0.5),
        ("512 kB / 1 MB", 0.512),
        ("100%", 1.0),
        ("0/10", 0.0),
        ("done 10% then 20%", 0.2),
    ],
)
def test_a_line_that_tells_progress_is_recognized(line: str, share: float) -> None:
    assert scan_fraction(line) == pytest.approx(share)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "2026/11/23 10:00:00 started",
        "23/11/2026",
        "open /usr/lib/python3/4/file",
        "HTTP/1.1 200 OK",
        "ratio 16/9",
        "available 24/7",
        "version 1.2/1.3",
        "coverage 250%",
        "%d%% of",
        "x/y",
        "eta 0:10/1:20",
        "5.0 MB/s",
        "1/1",
        "a 3/4-inch bolt",
    ],
)
def test_a_line_that_only_looks_like_progress_is_not(line: str) -> None:
    assert scan_fraction(line) is None


@pytest.mark.parametrize(
    ("line", "share"),
    [
        ("     50K .......... .......... .......... 37% 1.10M 12s", 0.37),
        ("#5 [3/12] RUN make", 0.25),
        ("[download]  42.0% of 10.00MiB at 1.00MiB/s ETA 00:05", 0.42),
        ("model.bin: 45%|████▌     | 450M/1.00G [00:10<00:12, 45.0MB/s]", 0.45),
        ("######################                 45.3%", 0.453),
        ("    Building [=====>                   ] 30/120: syn, serde", 0.25),
        ("tests/test_a.py ........... [ 45%]", 0.45),
        ("  1,234,567  42%   11.77MB/s    0:00:12 (xfr#1, to-chk=5/7)", 0.42),
        ("12,5 % erledigt", 0.125),
        ("Resolving deltas:  50% (1/2)\x1b[K", 0.5),
        ("3/12", 0.25),
        ("x" * 100_000 + " 30%", 0.3),
    ],
)
def test_an_unusual_line_that_tells_progress_is_recognized(line: str, share: float) -> None:
    assert scan_fraction(line) == pytest.approx(share)


@pytest.mark.parametrize(
    "line",
    [
        "11/23 10:15:00 INFO listening",
        "-5% on last year",
        "+12%",
        "10.0.0.0/24 is reachable",
        "between 10-20",
        "50%off",
        "1" * 100_000,
        "9" * 1_000 + "/" + "9" * 1_000,
        "1,1" * 30_000,
        "1/" * 30_000,
    ],
)
def test_an_unusual_line_that_only_looks_like_progress_is_not(line: str) -> None:
    assert scan_fraction(line) is None


def test_the_words_before_a_count_are_its_label() -> None:
    assert find_progress("remote: Counting objects:  42% (4/9)") == (
        0.42,
        "remote Counting objects",
    )
    assert find_progress("[3/12] cc") == (0.25, "")


def test_half_a_line_is_not_taken_for_a_count() -> None:
    assert find_progress("1/2", is_whole=False) is None
    assert find_progress("12%", is_whole=False) == (0.12, "")


def test_each_count_of_a_program_is_one_unit_of_progress() -> None:
    parts = Parts()
    said = [parts.add_share(Found(share, label)) for label in "ab" for share in (0.0, 0.5, 1.0)]
    assert said == [(0, 1), (0.5, 1), (1, 1), (1, 2), (1.5, 2), (2, 2)]
    assert parts.add_share(Found(0.25, "a")) == (2.25, 3)
    assert parts.add_share(Found(0.1, "a")) == (2.25, 3)


@given(
    st.lists(st.tuples(st.sampled_from([str(n) for n in range(50)]), st.floats(0, 1)), max_size=200)
)
def test_the_sum_of_all_counts_never_falls(said: list[tuple[str, float]]) -> None:
    parts = Parts()
    sums = [parts.add_share(Found(share, label)) for label, share in said]
    for (done, total), (before, size) in zip(sums[1:], sums, strict=False):
        assert done >= before - 1e-9
        assert total >= size
        assert done <= total + 1e-9

"""Progress in lines that real programs write, and lines that only look like it."""

import pytest

from headway.api.scan import scan


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
def test_what_says_how_far_it_is(line: str, share: float) -> None:
    assert scan(line) == pytest.approx(share)


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
def test_what_only_looks_like_it(line: str) -> None:
    assert scan(line) is None

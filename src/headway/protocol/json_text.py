"""Facts about a JSON text from its bytes alone: how much it holds, and why it is invalid.

Nothing is built for a text that holds too much. A body of 4 MB can hold a million arrays, or two
million numbers where a tool wants texts. To decode, check and free them takes a hundred times as
long as to send them. Here the methods of `bytes` count them, in some milliseconds for the largest
body.
"""

import re
from itertools import accumulate
from typing import Final, NamedTuple

SCALARS: Final = 5
"""Values of all kinds that a text may have for each array or object that it may have: a number
costs less than a list, and data comes in rows."""

_OTHERS: Final = bytes(set(range(256)) - set(b'"[]{},'))

_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""A bracket as the signed byte by which the depth changes."""


class Measure(NamedTuple):
    """How much a JSON text holds, and how deep it nests."""

    containers: int
    values: int
    """Number of values, the containers among them, without the first value in each container."""
    depth: int


def may_exceed(text: bytes, containers: int, values: int) -> bool:
    """Return whether a text may hold more than so many arrays and objects, or values in all.

    Characters inside of strings count too, so the text need not be parsed.
    """
    if text.count(b"[") + text.count(b"{") > containers:
        return True
    return len(text) > values and text.count(b",") > values


def measure_json(text: bytes, most: int) -> Measure:
    """Return how much a JSON text holds; beyond `most` containers, or their values, at least.

    The depth of a text that holds more than that is not computed. A text that is no JSON gives any
    numbers.
    """
    marks = _marks_outside_of_strings(text, most)
    if marks is None:
        return Measure(most + 1, most * SCALARS + 1, 0)
    containers = marks.count(b"[") + marks.count(b"{")
    values = containers + marks.count(b",")
    if containers > most or values > most * SCALARS:
        return Measure(containers, values, 0)
    steps = memoryview(marks.translate(_STEPS, b",")).cast("b")
    return Measure(containers, values, max(accumulate(steps), default=0))


def _marks_outside_of_strings(text: bytes, most: int) -> bytes | None:
    """Return the brackets and commas outside of strings; None if there are far too many."""
    # Without escapes every quote begins or ends a string.
    plain = text.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in text else text
    bare = plain.translate(None, _OTHERS)
    # A string without marks is `""` now, and so is a seam of two strings with nothing between
    # them: what is between the two quotes of a pair is nothing, in a string or not.
    bare = bare.replace(b'""', b"")
    # Strings that are left have marks between them, so there are no more of them than of those.
    if bare.count(b'"') > 2 * (SCALARS + 2) * (most + 1):
        return None
    return b"".join(bare.split(b'"')[::2])


_HALF_A_PAIR: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)

_OTHER_THINGS: Final = (
    (b"\x1f\x8b", "it is compressed; send it as it is"),
    (b"\xff\xfe", "it is UTF-16; send UTF-8"),
    (b"\xfe\xff", "it is UTF-16; send UTF-8"),
)


def explain_no_json(text: bytes) -> str | None:
    """Return why a text is no JSON, for the cases where its bytes tell more than the decoder."""
    if not text.strip():
        return "it is empty"
    for beginning, reason in _OTHER_THINGS:
        if text.startswith(beginning):
            return reason
    half = _HALF_A_PAIR.search(text.replace(b"\\\\", b"  "))
    if half is not None:
        return (
            f"{half[0].decode()} is half of a surrogate pair, as of a text that was cut inside of "
            "a character; send whole characters"
        )
    return None

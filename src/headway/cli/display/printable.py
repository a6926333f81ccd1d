"""Foreign text, made harmless for a terminal, a log and a row of a list.

A terminal obeys control characters. Characters that turn the direction of a text make it read as
another one (Unicode Standard Annex 9; CVE-2021-42574). A line end forges a row.
"""

import json
import re
from typing import Any, TextIO

_TURNS = "\u202a-\u202e\u2066-\u2069"
_HARMFUL = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_TURNS}]")
_NOT_IN_A_ROW = re.compile(f"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff{_TURNS}]")


def plain(text: str) -> str:
    """Return a text of several lines without characters that drive a terminal or turn its
    direction.
    """
    return _HARMFUL.sub("", text)


def one_line(text: str) -> str:
    """Return a text as one line: characters that would end it, or drive a terminal, are escaped."""
    return _NOT_IN_A_ROW.sub(_escape_character, text)


def _escape_character(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def json_text(value: Any, out: TextIO, *, indent: int | None = None) -> str:
    """Return JSON that can be written to `out`, whatever its encoding; harmless on a terminal."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    try:
        text.encode(out.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return json.dumps(value, indent=indent)
    return re.sub(f"[\x7f-\x9f{_TURNS}]", lambda found: f"\\u{ord(found[0]):04x}", text)


def write_anything(out: Any) -> None:
    """Make a stream write an escape for a character that its encoding lacks, and not fail.

    A stream that was set up otherwise (`PYTHONIOENCODING=ascii:replace`) is left as it is.
    """
    if getattr(out, "errors", None) in ("strict", "surrogateescape") and hasattr(
        out, "reconfigure"
    ):
        out.reconfigure(errors="backslashreplace")

"""Header lines: lists, headers with one value, the form of a Host, and a time to wait.

Pure functions.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import chain
from typing import Final

from mcp_types.jsonrpc import HEADER_MISMATCH, INVALID_REQUEST

from headway.errors import ProtocolError

Lines = Sequence[tuple[bytes, bytes]]
"""Names and values, as ASGI has them: names in lower case."""

ONE_VALUE: Final[Mapping[bytes, str]] = {
    name.lower().encode(): name
    for name in (
        "Host", "Origin", "Authorization", "Content-Type", "Content-Length", "Mcp-Session-Id",
        "MCP-Protocol-Version", "Mcp-Method", "Mcp-Name", "Last-Event-ID", "Idempotency-Key",
    )
}  # fmt: skip
"""The headers that have one value and decide something. If there are two lines of one, a program
that reads the first and one that reads the last disagree (RFC 9110, 5.3)."""

_ROUTING: Final = (b"mcp-protocol-version", b"mcp-method", b"mcp-name")
"""The headers for which 2026-07-28 has an error of its own (transports, "Server Validation")."""

_HOST: Final = re.compile(
    r"(?P<name>\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*)(?::[0-9]{0,5})?"
)
"""`uri-host [":" port]` of RFC 9110, 7.2, whose parts are those of RFC 3986."""


def read_headers(lines: Lines) -> dict[str, str]:
    """Return header names, lower case, to values without blanks around them.

    Several lines of one name are one list, in their order (RFC 9110, 5.3), except where only one
    value is allowed. Some parsers keep the blanks after a value; a comparison must not see them.
    """
    # All at once, which takes a third of the time. No line has a line end in it; if one has, the
    # number of parts tells.
    parts = b"\n".join(chain.from_iterable(lines)).decode("latin-1").split("\n")
    headers = dict(zip(map(str.lower, parts[::2]), map(str.strip, parts[1::2]), strict=False))
    return headers if len(parts) == 2 * len(headers) == 2 * len(lines) else _join_lines(lines)


def _join_lines(lines: Lines) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw, text in lines:
        name, value = raw.decode("latin-1").lower(), text.decode("latin-1").strip()
        if name not in headers:
            headers[name] = value
        elif raw.lower() not in ONE_VALUE:
            headers[name] += f", {value}"
    return headers


def check_lines(lines: Lines) -> None:
    """Refuse a request that has two values of a header that takes one.

    The same value twice is harmless, and some proxies make it of one line. Two lines of `Host` have
    to be refused whatever they say (RFC 9112, 3.2).

    Raises:
        ProtocolError: The text names the header.
    """
    names = [name for name, _ in lines]
    if len(set(names)) == len(names):
        return
    seen: dict[bytes, bytes] = {}
    for raw, value in lines:
        name, text = raw.lower(), value.strip()
        if name not in ONE_VALUE:
            continue
        if name in seen and (name == b"host" or seen[name] != text):
            raise ProtocolError(
                HEADER_MISMATCH if name in _ROUTING else INVALID_REQUEST,
                f"The header {ONE_VALUE[name]} has more than one value; send one line of it",
            )
        seen[name] = text


def name_of_host(host: str) -> str | None:
    """Return the name or address in a `Host`, lower case and without brackets; None: it is none."""
    match = _HOST.fullmatch(host.strip(" \t"))
    return None if match is None else match["name"].lower().strip("[]")


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds from now that `Retry-After` asks for (RFC 9110, 10.2.3)."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())

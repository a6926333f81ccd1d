"""The form of an answer: JSON, or a stream of events (`Accept`; RFC 9110, 12.5.1).

The specification wants clients to accept both. A client in the field that accepts only one gets
that one, and a client that sends no `Accept` gets either: a refusal would help nobody, and each
form carries the result.
"""

import re
from enum import Enum
from functools import lru_cache
from typing import Final

from mcp_types.jsonrpc import INVALID_REQUEST

from headway.errors import ProtocolError

JSON: Final = "application/json"
SSE: Final = "text/event-stream"
HTML: Final = "text/html"

_WEIGHT: Final = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")


class Form(Enum):
    """The form of an answer that a client accepts."""

    ANY = "JSON or a stream, as it fits the answer"
    JSON = "JSON: the result alone, when it is there"
    STREAM = "a stream, also of an answer that is nothing but its result"


def response_form(headers: dict[str, str]) -> Form:
    """Return the form that a request's answer is to have.

    Raises:
        ProtocolError: Its client takes neither (406).
    """
    takes_json, takes_stream = _accepted_forms(headers.get("accept", ""))
    if takes_json and takes_stream:
        return Form.ANY
    if takes_stream:
        return Form.STREAM
    if takes_json:
        return Form.JSON
    raise _not_acceptable(f"The answer may be {JSON} or {SSE}; send Accept: {JSON}, {SSE}")


def need_stream(headers: dict[str, str], what: str) -> None:
    """Refuse a request that only a stream can answer, where its client does not accept one.

    Raises:
        ProtocolError: 406; its text says that `what` is answered with a stream.
    """
    if not _accepted_forms(headers.get("accept", ""))[1]:
        raise _not_acceptable(f"{what} is answered with {SSE}; send Accept: {JSON}, {SSE}")


def _not_acceptable(text: str) -> ProtocolError:
    return ProtocolError(INVALID_REQUEST, text, status=406)


def prefers_html(headers: dict[str, str]) -> bool:
    """Return whether a client would rather have a page than anything that MCP answers with.

    Browsers do. A client that takes everything alike (`*/*`) does not.
    """
    ranges = _parse_accept(headers.get("accept", ""))
    html = _weight_of(HTML, ranges)
    return html > max(_weight_of(JSON, ranges), _weight_of(SSE, ranges))


@lru_cache(maxsize=64)
def _accepted_forms(accept: str) -> tuple[bool, bool]:
    """Return whether JSON is accepted, and whether a stream is; a missing header accepts both."""
    ranges = _parse_accept(accept)
    if not ranges:
        return True, True
    return _weight_of(JSON, ranges) > 0, _weight_of(SSE, ranges) > 0


def _parse_accept(accept: str) -> dict[str, float]:
    return dict(_parse_range(text) for text in accept.split(",") if text.strip())


def _parse_range(text: str) -> tuple[str, float]:
    """Return a media range and its weight: `q=0` says that it is not wanted at all."""
    media, *parameters = (part.strip().lower() for part in text.split(";"))
    weights = [_parse_weight(part[2:]) for part in parameters if part.startswith("q=")]
    return media, min(weights, default=1.0)


def _parse_weight(text: str) -> float:
    if not text.strip("0."):
        return 0.0
    return float(text) if _WEIGHT.fullmatch(text) else 1.0


def _weight_of(media: str, ranges: dict[str, float]) -> float:
    """Return how much a media type is wanted: the most specific range that covers it decides."""
    kind = media.partition("/")[0]
    for known in (media, f"{kind}/*", "*/*"):
        if known in ranges:
            return ranges[known]
    return 0.0

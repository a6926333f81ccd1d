"""Which form an answer has: JSON, or a stream of events (`Accept`; RFC 9110, 12.5.1).

The specification has clients take both. Those in the field that take one get that one, and those
that say nothing take anything: a refusal would help nobody, and each form carries the result.
"""

from enum import Enum
from functools import lru_cache
from typing import Final

from mcp_types.jsonrpc import INVALID_REQUEST

from headway.errors import ProtocolError

JSON: Final = "application/json"
SSE: Final = "text/event-stream"


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
    """Refuse a request whose answer can be nothing but a stream, to a client that takes none.

    Raises:
        ProtocolError: 406, saying `what` is answered with one.
    """
    if not _accepted_forms(headers.get("accept", ""))[1]:
        raise _not_acceptable(f"{what} is answered with {SSE}; send Accept: {JSON}, {SSE}")


def _not_acceptable(text: str) -> ProtocolError:
    return ProtocolError(INVALID_REQUEST, text, status=406)


@lru_cache(maxsize=64)
def _accepted_forms(accept: str) -> tuple[bool, bool]:
    """Return whether JSON and whether a stream is accepted; no header accepts both."""
    ranges = dict(_parse_range(text) for text in accept.split(",") if text.strip())
    if not ranges:
        return True, True
    return _is_taken(JSON, ranges), _is_taken(SSE, ranges)


def _parse_range(text: str) -> tuple[str, bool]:
    """Return a media range, and whether it is wanted at all: `q=0` says that it is not."""
    media, *parameters = (part.strip().lower() for part in text.split(";"))
    weights = [part[2:] for part in parameters if part.startswith("q=")]
    return media, not any(weight.strip("0.") == "" for weight in weights)


def _is_taken(media: str, ranges: dict[str, bool]) -> bool:
    """Return whether a media type is accepted: the most specific range that covers it decides."""
    kind = media.partition("/")[0]
    for known in (media, f"{kind}/*", "*/*"):
        if known in ranges:
            return ranges[known]
    return False

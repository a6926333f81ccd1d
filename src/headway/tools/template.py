"""A request with places for an item in it, and how an item goes in."""

import json
import re
from collections.abc import Callable
from typing import Any, Literal, cast
from urllib.parse import quote

import httpx2
from pydantic import BaseModel, ConfigDict, Field, field_validator

from headway.tools.web.fetching import Ask

PLACE = re.compile(r"\{item((?:\.\w+)*)\}")
HEADERS = 30

KEY = "idempotency-key"

FRAMING = {"host", "content-length", "transfer-encoding", "connection", "accept-encoding"}
"""Headers that say how a message is sent, and are set by who sends it."""

SAFE = {"GET", "HEAD", "PUT", "DELETE"}
"""Methods that may be sent again although it is not known what became of them (RFC 9110, 9.2.2)."""


class BadItem(Exception):
    """No request can be made of an item; the text says why."""


class RequestTemplate(BaseModel):
    """One HTTP request with `{item}` or `{item.field}` in it."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(
        max_length=4000,
        description="http or https. In a longer URL the item is encoded; a URL that is nothing but "
        "{item} or {item.field} is taken as it is.",
    )
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    headers: dict[str, str] = Field(default={}, max_length=HEADERS)
    body: Any = Field(
        default=None,
        description="JSON. A text that is nothing but {item} or {item.field} becomes that value.",
    )
    expect: list[int] | None = Field(
        default=None, description="The statuses that are a success; all of 200 to 299 if left out."
    )
    idempotent: bool = Field(
        default=False,
        description="The request may be sent twice; it carries an Idempotency-Key of its own, "
        "unless the headers have one.",
    )

    @field_validator("headers")
    @classmethod
    def _no_framing(cls, headers: dict[str, str]) -> dict[str, str]:
        for name in headers:
            if name.lower() in FRAMING:
                raise ValueError(f"the header {name!r} is not the caller's to set")
        return headers

    @property
    def has_key(self) -> bool:
        """Whether the caller gives each item an Idempotency-Key; the same for all is none."""
        keys = (text for name, text in self.headers.items() if name.lower() == KEY)
        return any(PLACE.search(text) for text in keys)

    @property
    def may_repeat(self) -> bool:
        """Whether sending it once more can do no harm."""
        return self.method in SAFE or self.idempotent or self.has_key

    def accepts(self, status: int) -> bool:
        """Whether a status is a success."""
        return status in self.expect if self.expect is not None else 200 <= status < 300


def fill(template: RequestTemplate, item: Any, room: int) -> Ask:
    """The request for one item, of at most `room` characters of URL, headers and body.

    Raises:
        BadItem: The item lacks a field, a header cannot hold it, or it takes more room.
    """
    filler = Filler(item, room)
    headers = {name: _header(filler.put(text)) for name, text in template.headers.items()}
    content = b""
    if template.body is not None:
        body = json.dumps(filler.value(template.body), ensure_ascii=False)
        content = body.encode(errors="replace")
        headers.setdefault("Content-Type", "application/json")
    return Ask(template.method, _url(template.url, filler), headers, content)


def fixed_url(text: str) -> httpx2.URL | None:
    """The URL, if it says which host is asked whatever the item is."""
    authority = re.match(r"\w+://([^/?#]*)", text)
    if authority is None or PLACE.search(authority[0]):
        return None
    try:
        return httpx2.URL(PLACE.sub("x", text))
    except (httpx2.InvalidURL, UnicodeError):
        return None


class Filler:
    """Puts one item into texts and JSON, while there is room: a template that names a large item
    many times would otherwise make a request of any size.
    """

    def __init__(self, item: Any, room: int) -> None:
        self._item = item
        self._room = self._left = room

    def put(self, text: str, encode: Callable[[str], str] = str) -> str:
        """A text with the item in its places."""
        self._take(len(text))

        def found(place: re.Match[str]) -> str:
            return encode(self._taken(self._at(place[1])))

        return PLACE.sub(found, text)

    def value(self, template: Any) -> Any:
        """A JSON value with the item in its places."""
        if isinstance(template, str):
            alone = PLACE.fullmatch(template)
            if alone is None:
                return self.put(template)
            value = self._at(alone[1])
            self._taken(value)
            return value
        if isinstance(template, dict):
            pairs = cast("dict[str, Any]", template).items()
            return {key: self.value(value) for key, value in pairs}
        if isinstance(template, list):
            return [self.value(value) for value in cast("list[Any]", template)]
        return template

    def _at(self, path: str) -> Any:
        """What is at `.field.field` of the item."""
        value = self._item
        for name in filter(None, path.split(".")):
            if not isinstance(value, dict) or name not in value:
                raise BadItem(f"the item has no {path.removeprefix('.')!r}")
            value = cast("dict[str, Any]", value)[name]
        return value

    def _taken(self, value: Any) -> str:
        """A value as text, its room taken."""
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        self._take(len(text))
        return text

    def _take(self, length: int) -> None:
        self._left -= length
        if self._left < 0:
            raise BadItem(f"its request would be larger than {self._room:,} characters")


def _url(text: str, filler: Filler) -> str:
    if PLACE.fullmatch(text):
        return filler.put(text)
    return filler.put(text, lambda value: quote(value, safe="", errors="replace"))


def _header(value: str) -> str:
    if not value.isprintable() or not value.isascii():
        raise BadItem("a header would have characters in it that headers cannot hold")
    return value

"""A request with places for an item in it, and how an item goes in."""

import json
import re
from typing import Any, Literal, cast
from urllib.parse import quote

import httpx2
from pydantic import BaseModel, ConfigDict, Field, field_validator

from headway.tools.web.fetching import Ask

PLACE = re.compile(r"\{item((?:\.\w+)*)\}")
HEADERS = 30


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
        description="The request may be sent twice; it carries an Idempotency-Key of its own.",
    )

    @field_validator("headers")
    @classmethod
    def _no_framing(cls, headers: dict[str, str]) -> dict[str, str]:
        taken = {"host", "content-length", "transfer-encoding", "connection", "accept-encoding"}
        for name in headers:
            if name.lower() in taken:
                raise ValueError(f"the header {name!r} is not the caller's to set")
        return headers

    def accepts(self, status: int) -> bool:
        """Whether a status is a success."""
        return status in self.expect if self.expect is not None else 200 <= status < 300


def fill(template: RequestTemplate, item: Any) -> Ask:
    """The request for one item.

    Raises:
        BadItem: The item lacks a field, or a header cannot hold it.
    """
    headers = {name: _header(text, item) for name, text in template.headers.items()}
    content = b""
    if template.body is not None:
        content = json.dumps(_value(template.body, item), ensure_ascii=False).encode(
            errors="replace"
        )
        headers.setdefault("Content-Type", "application/json")
    return Ask(template.method, _url(template.url, item), headers, content)


def fixed_url(text: str) -> httpx2.URL | None:
    """The URL, if it says which host is asked whatever the item is."""
    authority = re.match(r"\w+://([^/?#]*)", text)
    if authority is None or PLACE.search(authority[0]):
        return None
    try:
        return httpx2.URL(PLACE.sub("x", text))
    except (httpx2.InvalidURL, UnicodeError):
        return None


def _url(text: str, item: Any) -> str:
    alone = PLACE.fullmatch(text)
    if alone is not None:
        return _text(_at(item, alone[1]))

    def encoded(place: re.Match[str]) -> str:
        return quote(_text(_at(item, place[1])), safe="", errors="replace")

    return PLACE.sub(encoded, text)


def _header(text: str, item: Any) -> str:
    value = PLACE.sub(lambda place: _text(_at(item, place[1])), text)
    if not value.isprintable() or not value.isascii():
        raise BadItem("a header would have characters in it that headers cannot hold")
    return value


def _value(template: Any, item: Any) -> Any:
    """A JSON value with the item put in wherever its places are."""
    if isinstance(template, str):
        alone = PLACE.fullmatch(template)
        if alone is not None:
            return _at(item, alone[1])
        return PLACE.sub(lambda place: _text(_at(item, place[1])), template)
    if isinstance(template, dict):
        pairs = cast("dict[str, Any]", template).items()
        return {key: _value(value, item) for key, value in pairs}
    if isinstance(template, list):
        return [_value(value, item) for value in cast("list[Any]", template)]
    return template


def _at(item: Any, path: str) -> Any:
    """What is at `.field.field` of an item."""
    value = item
    for name in filter(None, path.split(".")):
        if not isinstance(value, dict) or name not in value:
            raise BadItem(f"the item has no {path.removeprefix('.')!r}")
        value = cast("dict[str, Any]", value)[name]
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

"""A request with placeholders for an item, and how they are filled.

`RequestTemplate.find_fault` refuses a template before anything is sent: one with mistaken
placeholders (`placeholders`), and one that would send the same for every item. `fill` makes one
request of one item.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Annotated, Any, Literal, cast
from urllib.parse import quote

import httpx2
from pydantic import BaseModel, ConfigDict, Field, field_validator

from headway.tools.placeholders import Names, Where, advise_names, find_mistakes
from headway.tools.web.charsets import codec_of
from headway.tools.web.fetching import Ask

PLACEHOLDER = re.compile(r"\{item((?:\.[\w@$-]+)*)\}")
HEADERS = 30

KEY = "idempotency-key"

FRAMING = {"host", "content-length", "transfer-encoding", "connection", "accept-encoding"}
"""Headers that say how a message is sent; the HTTP client sets them."""

HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~\w]+", re.ASCII)
"""A token of RFC 9110, 5.6.2."""

SAFE = {"GET", "HEAD", "PUT", "DELETE"}
"""Methods that may be sent again although the first outcome is unknown (RFC 9110, 9.2.2)."""

HARMLESS = {"GET", "HEAD"}
"""Methods that change nothing (RFC 9110, 9.2.1): one item may do without a place."""

FORM = "application/x-www-form-urlencoded"

LOOKED_AT = 100
"""Items whose fields are used to find mistaken placeholders."""

MOST_FIELDS = 200


class BadItem(Exception):
    """No request can be made of an item; the text says why."""


class RequestTemplate(BaseModel):
    """One HTTP request with `{item}` or `{item.field}` in it."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(
        max_length=4000,
        description="http or https. {item} and {item.field} in single braces stand for the item; "
        "no other form does. In a longer URL the item is encoded; a URL that is nothing but {item} "
        "or {item.field} is taken as it is.",
    )
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    headers: dict[
        Annotated[str, Field(max_length=200)], Annotated[str, Field(max_length=131_072)]
    ] = Field(default={}, max_length=HEADERS)
    body: Any = Field(
        default=None,
        description="JSON. A text that is nothing but {item} or {item.field} becomes that value. "
        "With a Content-Type that is not JSON it is one text, which is sent as it is.",
    )
    expect: list[Annotated[int, Field(ge=100, le=599)]] | None = Field(
        default=None,
        max_length=100,
        description="The statuses that are a success; all of 200 to 299 if left out.",
    )
    idempotent: bool = Field(
        default=False,
        description="The request may be sent twice; it carries an Idempotency-Key of its own, "
        "unless the headers have one.",
    )
    same_for_all: bool = Field(
        default=False,
        description="Send the very same request for each item. Without it, a request in which "
        "nothing differs from item to item is refused.",
    )
    as_written: list[Annotated[str, Field(min_length=1, max_length=300)]] = Field(
        default=[],
        max_length=50,
        description="Texts of the request that look like a place for the item and are meant as "
        "they are written, such as '{name}' or '${item.price}'.",
    )

    @field_validator("headers")
    @classmethod
    def _no_framing(cls, headers: dict[str, str]) -> dict[str, str]:
        for name in headers:
            if name.lower() in FRAMING:
                raise ValueError(f"the header {name!r} is not the caller's to set")
            if not HEADER_NAME.fullmatch(name):
                raise ValueError(f"{name[:80]!r} is no name of a header; only its value has places")
        return headers

    @property
    def content_type(self) -> str | None:
        """Return the Content-Type that the caller gives."""
        given = (text for name, text in self.headers.items() if name.lower() == "content-type")
        return next(given, None)

    @property
    def has_key(self) -> bool:
        """Return whether each item has an Idempotency-Key of the caller's, not one for all."""
        keys = (text for name, text in self.headers.items() if name.lower() == KEY)
        return any(PLACEHOLDER.search(text) for text in keys)

    @property
    def may_repeat(self) -> bool:
        """Return whether sending it once more can do no harm."""
        return self.method in SAFE or self.idempotent or self.has_key

    def accepts(self, status: int) -> bool:
        """Return whether a status is a success."""
        return status in self.expect if self.expect is not None else 200 <= status < 300

    def find_fault(self, items: list[Any]) -> str | None:
        """Return the reason to send nothing for these items, and the remedy; None: all is well."""
        fields = _field_names(items)
        return (
            self._find_mistake(fields) or self._wrong_body() or self._find_unvarying(items, fields)
        )

    def _all_texts(self) -> Iterator[tuple[str, Where, str]]:
        """Yield each text with placeholders: its name, its kind, and the text."""
        yield "url", "url", self.url
        for name, text in self.headers.items():
            yield f"header {name[:80]}", "header", text
        for text in _all_strings(self.body):
            yield "body", "text", text

    def _find_mistake(self, fields: list[str]) -> str | None:
        names = Names(frozenset({"item"}), frozenset(fields))
        for called, where, text in self._all_texts():
            found = find_mistakes(text, PLACEHOLDER, names, where)
            mistakes = [each for each in found if each.found not in self.as_written]
            if mistakes:
                return (
                    f"The {called} has what is no place for an item and would be sent as it is: "
                    f"{advise_names(mistakes, lambda name: _right_placeholder(name, fields))}. "
                    "What is meant as it is written goes into as_written"
                )
        return None

    def _wrong_body(self) -> str | None:
        kind = self.content_type
        if kind is not None and not _is_json(kind) and self.body is not None:
            if not isinstance(self.body, str) and "json" not in kind.lower():
                return (
                    f"The header says {kind[:80]!r} and the body is JSON; write the body as one "
                    "text, or leave the header out"
                )
        elif isinstance(self.body, str) and _holds_json(self.body):
            return "The body is a text with JSON in it, and would be quoted; give the JSON itself"
        return None

    def _find_unvarying(self, items: list[Any], fields: list[str]) -> str | None:
        """Return whether nothing of the request differs from item to item."""
        if self.same_for_all:
            return None
        paths = {path for _, _, text in self._all_texts() for path in PLACEHOLDER.findall(text)}
        if not paths and (len(items) > 1 or self.method not in HARMLESS):
            what = "has no place for the item"
        elif len(items) > 1 and _are_alike(items, paths):
            what = f"has only places in which all {len(items):,} items are alike"
        else:
            return None
        return (
            f"The request {what}: it would be sent {len(items):,} times just the same. Write "
            f"{_right_placeholder('', fields)} where the item belongs, or same_for_all=true if "
            "that is meant"
        )


def fill(template: RequestTemplate, item: Any, room: int) -> Ask:
    """Return the request for one item, of at most `room` characters of URL, headers and body.

    Raises:
        BadItem: The item lacks a field, a header cannot hold it, or it takes more room.
    """
    filler = Filler(item, room)
    headers = {name: _check_value(filler.put(text)) for name, text in template.headers.items()}
    content = b""
    if template.body is not None:
        content = _fill_content(template, filler)
        if template.content_type is None:
            headers["Content-Type"] = "application/json"
    return Ask(template.method, _check_url(template.url, filler), headers, content)


def _fill_content(template: RequestTemplate, filler: "Filler") -> bytes:
    kind = template.content_type or "application/json"
    if isinstance(template.body, str) and not _is_json(kind):
        is_form = _media_type(kind) == FORM
        text = filler.put(template.body, _quote_value if is_form else str)
    else:
        text = json.dumps(filler.value(template.body), ensure_ascii=False)
    codec = codec_of(kind)
    if codec is None:
        return text.encode(errors="replace")
    try:
        return text.encode(codec)
    except UnicodeEncodeError:
        raise BadItem("its body has characters that the charset in Content-Type lacks") from None


def fixed_url(text: str) -> httpx2.URL | None:
    """Return the URL, if it says which host is asked whatever the item is."""
    authority = re.match(r"\w+://([^/?#]*)", text)
    if authority is None or PLACEHOLDER.search(authority[0]):
        return None
    try:
        return httpx2.URL(PLACEHOLDER.sub("x", text))
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
        """Return a text with the item in its placeholders."""
        self._take_room(len(text))

        def found(place: re.Match[str]) -> str:
            return encode(self._take_text(self._item_value(place[1])))

        return PLACEHOLDER.sub(found, text)

    def value(self, template: Any) -> Any:
        """Return a JSON value with the item in its placeholders."""
        if isinstance(template, str):
            alone = PLACEHOLDER.fullmatch(template)
            if alone is None:
                return self.put(template)
            value = self._item_value(alone[1])
            self._take_text(value)
            return value
        if isinstance(template, dict):
            pairs = cast("dict[str, Any]", template).items()
            filled = {self.put(key): self.value(value) for key, value in pairs}
            if len(filled) < len(cast("dict[str, Any]", template)):
                raise BadItem("two names in its body would be the same")
            return filled
        if isinstance(template, list):
            return [self.value(value) for value in cast("list[Any]", template)]
        return template

    def _item_value(self, path: str) -> Any:
        """Return the value at `.field.field` of the item; a number indexes a list, from 0."""
        try:
            return _value_at(self._item, path)
        except LookupError:
            raise BadItem(f"the item has no {path.removeprefix('.')!r}") from None

    def _take_text(self, value: Any) -> str:
        """Return a value as text, its room taken."""
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        self._take_room(len(text))
        return text

    def _take_room(self, length: int) -> None:
        self._left -= length
        if self._left < 0:
            raise BadItem(f"its request would be larger than {self._room:,} characters")


def _value_at(item: Any, path: str) -> Any:
    """Return the value at a path of an item.

    Raises:
        LookupError: Nothing is.
    """
    value = item
    for name in filter(None, path.split(".")):
        if isinstance(value, dict):
            value = cast("dict[str, Any]", value)[name]
        elif isinstance(value, list) and name.isascii() and name.isdigit():
            value = cast("list[Any]", value)[int(name[:9])]
        else:
            raise LookupError(name)
    return value


def _are_alike(items: list[Any], paths: Iterable[str]) -> bool:
    """Return whether all items are the same at these paths; ends at the first difference."""

    def places(item: Any) -> list[Any]:
        found: list[Any] = []
        for path in paths:
            try:
                found.append([_value_at(item, path)])
            except LookupError:
                found.append(None)
        return found

    first = places(items[0])
    return all(places(item) == first for item in items[1:])


def _field_names(items: list[Any]) -> list[str]:
    """Return the names of fields that the first items have, in their order."""
    found: dict[str, None] = {}
    for item in items[:LOOKED_AT]:
        if isinstance(item, dict):
            found.update(dict.fromkeys(cast("dict[str, Any]", item)))
    return list(found)[:MOST_FIELDS]


def _right_placeholder(name: str, fields: list[str]) -> str:
    """Return the placeholder that a mistaken name means, or all that there are."""
    words = name.split(".")
    if words[0].lower() in ("item", "items"):
        words = words[1:]
    while words and words[0].isdigit():  # `items[0].id`
        words = words[1:]
    known = {field.lower(): field for field in reversed(fields)}
    if words and words[0].lower() in known:
        right = ".".join(["item", known[words[0].lower()], *words[1:]])
        if PLACEHOLDER.fullmatch(f"{{{right}}}"):
            return f"{{{right}}}"
    there_are = [
        f"{{item.{field}}}" for field in fields if PLACEHOLDER.fullmatch(f"{{item.{field}}}")
    ]
    return " or ".join(there_are[:5]) or "{item}"


def _all_strings(body: Any) -> Iterator[str]:
    """Yield all texts in JSON, names too."""
    pending = [body]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            pairs = cast("dict[str, Any]", value)
            yield from pairs
            pending += pairs.values()
        elif isinstance(value, list):
            pending += cast("list[Any]", value)


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _is_json(content_type: str) -> bool:
    return _media_type(content_type).endswith(("/json", "+json"))


def _holds_json(text: str) -> bool:
    """Return whether a text is an object or a list in JSON, its places filled with anything."""
    if text.strip()[:1] not in ("{", "["):
        return False
    for filled in ("0", '"x"'):
        with suppress(ValueError, RecursionError):
            if isinstance(json.loads(PLACEHOLDER.sub(filled, text)), dict | list):
                return True
    return False


def _check_url(text: str, filler: Filler) -> str:
    if PLACEHOLDER.fullmatch(text):
        return filler.put(text)
    return filler.put(text, _quote_value)


def _quote_value(value: str) -> str:
    return quote(value, safe="", errors="replace")


def _check_value(value: str) -> str:
    if not value.isprintable() or not value.isascii():
        raise BadItem("a header would have characters in it that headers cannot hold")
    return value

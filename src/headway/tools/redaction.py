"""Redaction: secrets of the configuration are replaced by `***` in all that callers see.

A host may echo a request, unchanged or in another form: in JSON, in a URL, in HTML, in base64. So a
secret is looked for in each of these forms, also where they are mixed. A host that wants to reveal
it can always do so in a form of its own: it has the secret.
"""

import base64
import binascii
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import cast

HIDDEN = "***"

SHORTEST = 4
"""Characters of a value that is hidden: `1`, as in `X-Version: 1`, is in every answer."""

SHORTEST_PART = 8
"""Characters of a part of a value that is hidden by itself, such as the token behind `Bearer`."""

LOOKED_FOR = 64
"""Characters of a value that are looked for: enough to know it, and few enough to be quick."""

LONGEST_FORM = 14
"""Characters that may stand for one."""

OPEN_HEADERS = {"accept", "accept-language", "content-type", "user-agent"}
"""Headers whose values are no secrets."""

_ENTITIES = {'"': "quot", "&": "amp", "<": "lt", ">": "gt", "'": "apos"}


class Secrets:
    """Values that are not to be shown."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._values = {value for value in values if len(value) >= SHORTEST}

    @classmethod
    def of_headers(cls, headers: Mapping[str, str]) -> "Secrets":
        """Return the values of headers, and their parts that are secret by themselves: tokens,
        passwords.
        """
        values = {text for name, text in headers.items() if name.lower() not in OPEN_HEADERS}
        parts = {part for text in values for part in re.split(r"[\s,;=\"']+", text)}
        logins = {login for text in values for login in _login_parts(text)}
        found = {each for each in parts | logins if len(each) >= SHORTEST_PART}
        return cls(values | found)

    def __or__(self, other: "Secrets") -> "Secrets":
        return Secrets(self._values | other._values)

    def __bool__(self) -> bool:
        return bool(self._values)

    @property
    def longest(self) -> int:
        """Return how many characters the longest one may take, in the longest form that is looked
        for.
        """
        return max(map(len, self._values), default=0) * LONGEST_FORM

    def mask(self, text: str) -> str:
        """Return the text without the secrets."""
        return self._pattern.sub(HIDDEN, text) if self._values else text

    def mask_bytes(self, body: bytes) -> bytes:
        """Return a body without the secrets in their plain form, which is cheap enough for a large
        one. Numbers stay, for JSON would be none any more.
        """
        for value in sorted(self._values, key=len, reverse=True):
            if not value.isdigit():
                body = body.replace(value.encode(errors="replace"), HIDDEN.encode())
        return body

    def mask_json(self, value: object) -> object:
        """Return JSON without the secrets: in texts, names and numbers."""
        if not self._values:
            return value
        if isinstance(value, str):
            return self.mask(value)
        if isinstance(value, dict):
            pairs = cast("dict[object, object]", value).items()
            return {self.mask_json(name): self.mask_json(each) for name, each in pairs}
        if isinstance(value, list | tuple):
            return [self.mask_json(each) for each in cast("Sequence[object]", value)]
        if isinstance(value, int | float) and not isinstance(value, bool):
            return HIDDEN if self._pattern.search(str(value)) else value
        return value

    def mask_beginning(self, text: str, most: int) -> str:
        """Return the first characters without the secrets; no secret is cut in two, which would
        show its beginning.
        """
        end = most
        for found in self._pattern.finditer(text[: most + self.longest]) if self._values else ():
            if found.start() < most < found.end():
                end = found.end()
        shown = self.mask(text[:end])
        return shown if len(text) <= end else f"{shown}…"

    def hide_in_logs(self, handlers: Iterable[logging.Handler]) -> None:
        """Keep the secrets out of everything that these handlers write."""
        if self._values:
            for handler in handlers:
                handler.addFilter(partial(self._mask_record, handler))

    def _mask_record(self, handler: logging.Handler, record: logging.LogRecord) -> bool:
        record.msg, record.args = self.mask(_message_of(record)), None
        if record.exc_info and not record.exc_text:
            record.exc_text = _traceback_text(handler, record)
        for name, value in list(vars(record).items()):
            if name not in _FIELDS_WITHOUT_SECRETS:
                vars(record)[name] = self.mask_json(value)
        return True

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        ordered = sorted(self._values, key=lambda value: (-len(value), value))
        return re.compile("|".join(form for value in ordered for form in _form_patterns(value)))


_FIELDS_WITHOUT_SECRETS = {"exc_info", *vars(logging.makeLogRecord({}))} - {
    "msg", "exc_text", "stack_info",
}  # fmt: skip
"""Fields that logging itself fills in; all others are the text, or were given with `extra`."""


def _message_of(record: logging.LogRecord) -> str:
    """Return the text of a record; a filter that raised would break off the code that logs."""
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - its arguments do not fit, or raise where they are shown
        return f"{record.msg} (with arguments that do not fit)"


def _traceback_text(handler: logging.Handler, record: logging.LogRecord) -> str:
    """Return the traceback of a record as the handler writes it."""
    assert record.exc_info
    try:
        return (handler.formatter or logging.Formatter()).formatException(record.exc_info)
    except Exception as error:  # noqa: BLE001 - such as groups in groups, too deep for Python
        return f"(the traceback cannot be shown: {type(error).__name__})"


def _login_parts(text: str) -> Iterable[str]:
    """Return the user and the password of a Basic authorization (RFC 7617)."""
    scheme, _, credentials = text.partition(" ")
    if scheme.lower() != "basic":
        return ()
    try:
        login = base64.b64decode(credentials, validate=True).decode()
    except (binascii.Error, ValueError):
        return ()
    return (login, login.partition(":")[2])


def _form_patterns(value: str) -> Iterable[str]:
    """Return patterns of all forms of a value; the beginning of a long one is matched, with all
    that follows it without a gap.
    """
    head, rest = value[:LOOKED_FOR], len(value[LOOKED_FOR:])
    behind = f"[^\\s\"'<>]{{0,{rest * LONGEST_FORM}}}" if rest else ""
    yield "(?i:" + "".join(map(_character_pattern, head)) + ")" + behind
    data = head.encode(errors="replace")
    yield "(?i:" + data.hex() + ")" + behind
    for before in range(3):
        # Which characters stand for it depends on what comes before and after: those at the edges
        # belong to both and are left out.
        encoded = base64.b64encode(bytes(before) + data).decode()
        core = encoded[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
        if len(core) >= SHORTEST:
            yield "".join(map(_digit_pattern, core)) + behind


def _character_pattern(character: str) -> str:
    """Return a character as it is, and as URLs, JSON, HTML and programs write it; also twice
    over."""
    code = ord(character)
    percent = "".join(f"%(?:25){{0,3}}{byte:02x}" for byte in character.encode(errors="replace"))
    forms = [
        rf"\\{{0,8}}{re.escape(character)}",
        percent,
        rf"&#0{{0,4}}{code};",
        f"&#x0{{0,4}}{code:x};",
    ]
    forms += [rf"\\{{1,8}}x{code:02x}"] if code < 256 else []
    forms += [rf"\\{{1,8}}u{code:04x}"] if code < 0x10000 else []
    forms += [f"&{_ENTITIES[character]};"] if character in _ENTITIES else []
    forms += [r"\+"] if character == " " else []
    return f"(?:{'|'.join(forms)})"


def _digit_pattern(digit: str) -> str:
    """Return a digit of base64, of both alphabets, and as URLs and JSON write it."""
    match digit:
        case "+":
            return "(?:[+-]|%2[Bb])"
        case "/":
            return r"(?:\\?/|_|%2[Ff])"
        case _:
            return digit

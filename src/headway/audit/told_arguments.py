"""The arguments of a call as an audit log has them: names, hashes or values, and no secrets.

An argument whose name says that it is secret is `***`, at any depth, also as a hash: the hash of a
password can be guessed. Texts that look like access tokens are `***` wherever they stand.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import translate
from functools import lru_cache
from itertools import islice
from typing import Final, Literal, NamedTuple, cast

from headway.jsonable import encode_json

HIDDEN: Final = "***"

ALWAYS_REDACTED: Final = (
    "*password*", "*passwd*", "*passphrase*", "*secret*", "*token*", "*api_key*", "*apikey*",
    "*private_key*", "*credential*", "*authorization*", "*cookie*",
)  # fmt: skip
"""Names of arguments that are never told, whatever the configuration says."""

MOST_ARGUMENTS: Final = 32
LONGEST_NAME: Final = 100
LONGEST_VALUE: Final = 1000
MOST_PARTS: Final = 200
"""Values within values of one call that are looked at; what follows is left out."""

SHORTEST_SECRET: Final = 4
"""Characters of a text that is looked for in errors: shorter ones are in every sentence."""

MOST_SECRETS: Final = 50

_TOKENS: Final = re.compile(
    r"\bbearer\s+\S+|\bbasic\s+[\w+/]{6,}={1,2}|\bhw_[\w-]{20,}|\beyJ[\w-]{5,}\.[\w-]+\.[\w-]*"
    r"|\bgh[opsu]_\w{20,}|\bsk-[\w-]{16,}|\bAKIA[0-9A-Z]{16}\b",
    re.IGNORECASE,
)
"""Texts that are access tokens by their form, of services that are often called."""

_PASSWORDS: Final = re.compile(r"(?<=://)[^/?#\s@]*@")
"""User and password in a URL."""

Hidden = re.Pattern[str]
"""Matches the names of arguments that are not told."""

Told = Literal["names", "hashes", "values"]


class ToldArguments(NamedTuple):
    """The arguments of a call as its record has them, and the texts that no error may repeat."""

    shown: object
    secrets: tuple[str, ...]


def tell_arguments(
    arguments: Mapping[str, object], told: Told, redact: Iterable[str]
) -> ToldArguments:
    """Return what is told of arguments, with those hidden whose names match `redact`."""
    hidden = _hidden_names(tuple(redact))
    some = dict(islice(arguments.items(), MOST_ARGUMENTS))
    limit = _PartLimit()
    secrets = tuple(islice(_secrets_in(some, hidden, _PartLimit()), MOST_SECRETS))
    if told == "names":
        return ToldArguments([without_tokens(name[:LONGEST_NAME]) for name in some], secrets)
    shown = {
        without_tokens(name[:LONGEST_NAME]): HIDDEN
        if _is_hidden(name, hidden)
        else _hash_of(value, hidden, limit)
        if told == "hashes"
        else _shorten(_without_secrets(value, hidden, limit, secrets))
        for name, value in some.items()
    }
    return ToldArguments(shown, secrets)


def without_tokens(text: str, secrets: Sequence[str] = ()) -> str:
    """Return a text in which access tokens, and `secrets`, are hidden.

    Of a text that was cut (`…`) also the beginning of a secret at its end.
    """
    text = _replace_secrets(text, secrets)
    if text.endswith("…"):
        for secret in secrets:
            text = _without_end(text[:-1], secret)
    return text


def _replace_secrets(text: str, secrets: Sequence[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _PASSWORDS.sub(f"{HIDDEN}@", _TOKENS.sub(HIDDEN, text))


def _without_end(text: str, secret: str) -> str:
    for size in range(min(len(secret), len(text)), 0, -1):
        if text.endswith(secret[:size]):
            return f"{text[:-size]}{HIDDEN}…"
    return f"{text}…"


class _PartLimit:
    """The number of values that may still be looked at."""

    def __init__(self) -> None:
        self.left = MOST_PARTS

    def take(self) -> bool:
        self.left -= 1
        return self.left >= 0


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


@lru_cache(maxsize=16)
def _hidden_names(redact: tuple[str, ...]) -> Hidden:
    """Return what matches the names of arguments that are not told."""
    patterns = (*ALWAYS_REDACTED, *(_plain(each) for each in redact))
    return re.compile("|".join(translate(each) for each in patterns))


def _is_hidden(name: str, hidden: Hidden) -> bool:
    # To match a name of any length would take as long: one that nobody gives is hidden unread.
    return len(name) > LONGEST_NAME or hidden.match(_plain(name)) is not None


def _without_secrets(
    value: object, hidden: Hidden, limit: _PartLimit, secrets: Sequence[str] = ()
) -> object:
    if not limit.take():
        return "…"
    if isinstance(value, dict):
        items = islice(cast("dict[str, object]", value).items(), max(0, limit.left))
        return {
            name: HIDDEN
            if _is_hidden(name, hidden)
            else _without_secrets(each, hidden, limit, secrets)
            for name, each in items
        }
    if isinstance(value, list):
        some = islice(cast("list[object]", value), max(0, limit.left))
        return [_without_secrets(each, hidden, limit, secrets) for each in some]
    if not isinstance(value, str):
        return value
    # Twice as much as is told: a secret that begins in what is told is there as a whole.
    text = _replace_secrets(value[: 2 * LONGEST_VALUE], secrets)
    return text if len(value) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def _secrets_in(value: object, hidden: Hidden, limit: _PartLimit) -> Iterator[str]:
    """Yield the texts that stand below names which are hidden."""
    if not limit.take():
        return
    if isinstance(value, dict):
        for name, each in islice(cast("dict[str, object]", value).items(), max(0, limit.left)):
            if _is_hidden(name, hidden):
                yield from _texts_in(each, limit)
            else:
                yield from _secrets_in(each, hidden, limit)
    elif isinstance(value, list):
        for each in islice(cast("list[object]", value), max(0, limit.left)):
            yield from _secrets_in(each, hidden, limit)


def _texts_in(value: object, limit: _PartLimit) -> Iterator[str]:
    if not limit.take():
        return
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        text = value[:LONGEST_VALUE] if isinstance(value, str) else str(value)
        yield from _written_forms(text)
    elif isinstance(value, dict | list):
        parts = cast("dict[str, object] | list[object]", value)
        each_part = parts.values() if isinstance(parts, dict) else parts
        for each in islice(each_part, max(0, limit.left)):
            yield from _texts_in(each, limit)


def _written_forms(secret: str) -> Iterator[str]:
    """Yield a secret in the ways in which an error's text may have it, none of them short."""
    lines = [secret, *secret.splitlines()]
    for text in dict.fromkeys(lines):
        escaped = text.encode("unicode_escape").decode("ascii")
        as_json = json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]
        forms = (text, escaped, repr(text)[1:-1], *as_json)
        yield from (each for each in dict.fromkeys(forms) if len(each) >= SHORTEST_SECRET)


def _hash_of(value: object, hidden: Hidden, limit: _PartLimit) -> str:
    is_text = isinstance(value, str)
    shown = value if is_text else _without_secrets(value, hidden, limit)
    return f"sha256:{hashlib.sha256(bytes(encode_json(shown))).hexdigest()[:32]}"


def _shorten(value: object) -> object:
    """Return a value that is not too long; of one that is, the beginning of its JSON."""
    text = bytes(encode_json(value)).decode()
    return value if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"

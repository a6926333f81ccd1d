"""Checks of the templates and paths of `headway.toml`; each raises a ValueError.

Sources of `search` have two kinds of placeholders: `{query}` and `{limit}` where an `api` is asked,
the names of columns where a `database` makes a link.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from headway.tools.placeholders import Names, Where, advise_names, find_mistakes
from headway.tools.search.databank import FIELD
from headway.tools.search.web_api import PLACEHOLDER

_ASKED = Names(
    frozenset({"query", "limit"}),
    frozenset({"q", "search", "searchTerms", "term", "terms", "text", "count", "size", "page"}),
)

_COUNTS = {"limit", "count", "size", "n", "max", "rows", "per_page", "page_size"}

_COLUMN = re.compile(r"[^\W\d](?:[\w $#-]*[\w$#-])?")


def check_asked(text: str, where: Where = "text") -> None:
    """Return a text in which `{query}` and `{limit}` are replaced."""
    mistakes = list(find_mistakes(text, PLACEHOLDER, _ASKED, where))
    if mistakes:
        raise ValueError(f"has what is no place: {advise_names(mistakes, _right_placeholder)}")


def check_asked_url(text: str) -> None:
    """Return a URL in which `{query}` and `{limit}` are replaced."""
    check_asked(text, "url")


def check_asked_body(body: Any) -> Any:
    """Return JSON in whose texts `{query}` and `{limit}` are replaced."""
    for text in _all_texts(body):
        check_asked(text)
    return body


def check_fixed(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return headers, which must be the same for every query."""
    for name, text in headers.items():
        if PLACEHOLDER.search(text):
            raise ValueError(f"{name} has a place, and headers are sent as they are")
    return headers


def check_link(text: str) -> str:
    """Return a link with the names of columns in braces."""
    where: Where = "url" if "://" in text else "text"
    mistakes = list(find_mistakes(text, FIELD, Names(frozenset()), where))
    if mistakes:
        raise ValueError(
            f"has what is no place: {advise_names(mistakes, lambda name: f'{{{name}}}')}"
        )
    names = FIELD.findall(text)
    strange = [name for name in names if not _COLUMN.fullmatch(name)]
    if strange:
        raise ValueError(f"{strange[0][:80]!r} is no name of a column; write {{slug}}")
    if not names:
        raise ValueError("has no column in braces, so that all hits would be one; write {slug}")
    return text


def check_path(path: str) -> str:
    """Return a path in an answer: names and positions with dots between."""
    if re.search(r"[\[\]*]|^[/.$]|\.\.|\.$", path) and not re.fullmatch(r"\$\w+(\.\w+)*", path):
        raise ValueError("is no path; write names and positions with dots, as in data.items.0.url")
    return path


def _right_placeholder(name: str) -> str:
    if not name:
        return "{query} or {limit}"
    return "{limit}" if name.lower() in _COUNTS else "{query}"


def _all_texts(body: Any) -> Iterator[str]:
    if isinstance(body, str):
        yield body
    elif isinstance(body, dict):
        for name, value in cast("dict[str, Any]", body).items():
            yield name
            yield from _all_texts(value)
    elif isinstance(body, list):
        for value in cast("list[Any]", body):
            yield from _all_texts(value)

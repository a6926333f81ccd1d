r"""Placeholders in a template, and texts that only look like one.

A place is a name in single braces: `{item.id}`, `{query}`, `{slug}`. People and models write others
that they know from elsewhere (`{{item.id}}`, `${id}`, `<id>`, `%s`); sent as they stand they would
be the same wrong request for everybody. `find_mistakes` finds them. It is a table of forms, with a
check for each that it is not something else: GraphQL, JSON, HTML, a date, a price, code.
"""

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

Where = Literal["url", "header", "text"]

MOST = 10
"""Mistakes that are looked for in one text: a hostile one has millions."""

_FILLED = "\0"
"""Stands for each character of a right place while the rest of a text is looked at."""


class Mistake(NamedTuple):
    """A text that looks like a placeholder and is none."""

    found: str
    """As it stands in the text."""
    name: str
    """The name that it seems to be, with dots: `item.id`, `id`; empty where it names nothing."""


@dataclass(frozen=True, slots=True)
class Names:
    """The names of a template: `roots` begin its placeholders, `fields` are members of a root."""

    roots: frozenset[str]
    fields: frozenset[str] = frozenset()

    def has_root(self, name: str) -> bool:
        """Return whether a name begins with a root, in whatever case or number."""
        first = _first_word(name).lower()
        return first in self.roots or first.removesuffix("s") in self.roots

    def has_word(self, name: str) -> bool:
        """Return whether a name begins with a word of the template's own."""
        return self.has_root(name) or _first_word(name) in self.fields


def find_mistakes(
    text: str, places: re.Pattern[str], names: Names, where: Where
) -> Iterator[Mistake]:
    """Yield the first ten texts that look like a placeholder and are none of the `places`.

    Where such a thing is also something else (a tag, a date, a price), it counts as a place where
    that is likelier. `where` tells what the text is: braces in a URL, for one, are nothing else.
    """
    looked = _Text(text, places, names, where)
    for form in (*_FORMS, *_MORE[where]):
        for found in form.pattern.finditer(looked.rest):
            if looked.is_free(found) and form.is_meant(found, looked):
                whole = text[found.start() : found.end()]
                looked.taken.append(found.span())
                yield Mistake(whole, _meant_name(whole))
                if len(looked.taken) == MOST:
                    return


def advise_names(mistakes: Collection[Mistake], right: Callable[[str], str]) -> str:
    """Return the first three mistakes, and what to write instead, which `right` makes of a name."""
    listed = list(mistakes)
    shown = [f"{each.found[:80]!r} (write {right(each.name)})" for each in listed[:3]]
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(shown) + more


class _Text:
    """A text that is looked through, and what is asked of it as a whole."""

    def __init__(self, text: str, places: re.Pattern[str], names: Names, where: Where) -> None:
        self.names = names
        self.where = where
        self.taken: list[tuple[int, int]] = []
        self.rest = places.sub(lambda place: _FILLED * len(place[0]), text.replace(_FILLED, " "))

    def is_free(self, found: re.Match[str]) -> bool:
        """Return whether no mistake before this one has any of its characters."""
        return all(found.end() <= start or end <= found.start() for start, end in self.taken)

    def char_before(self, found: re.Match[str]) -> str:
        """Return the character before a match; a space where it begins the text."""
        return self.rest[found.start() - 1] if found.start() else " "

    @cached_property
    def is_date(self) -> bool:
        """Return whether it is a format for dates, as `%Y-%m-%d` is."""
        return re.search(r"%[a-ce-rt-zA-Z]", self.rest) is not None

    @cached_property
    def is_code(self) -> bool:
        """Return whether it is JSON, code or a regular expression rather than a sentence."""
        return re.search(r'["();=\[\]\\]', self.rest) is not None

    @cached_property
    def closed_tags(self) -> set[str]:
        """Return the names of tags that it closes."""
        return set(re.findall(r"</\s?(\w{1,80})", self.rest))


class _Form(NamedTuple):
    """A form of places elsewhere; `is_meant` tells whether a match of it is meant as one here."""

    pattern: re.Pattern[str]
    is_meant: Callable[[re.Match[str], _Text], bool]


def _is_always(_found: re.Match[str], _text: _Text) -> bool:
    return True


def _has_root(found: re.Match[str], text: _Text) -> bool:
    return text.names.has_root(found[1])


def _has_word(found: re.Match[str], text: _Text) -> bool:
    return text.names.has_word(found[1])


def _is_alone(found: re.Match[str], text: _Text) -> bool:
    """Return whether braces stand alone; in GraphQL, LaTeX and code they follow a word or a
    bracket.
    """
    if text.where == "url" or text.names.has_root(found[1]):
        return True
    before = text.char_before(found)
    if text.names.has_word(found[1]):
        return before not in ")}"
    return not (before.isalnum() or before in ")]}\\^_")


def _is_no_tag(found: re.Match[str], text: _Text) -> bool:
    """Return whether angle brackets are no tag: HTML and XML close what they open."""
    if text.where != "text":
        return True
    return text.names.has_word(found[1]) and _first_word(found[1]) not in text.closed_tags


def _is_no_subscript(found: re.Match[str], text: _Text) -> bool:
    """Return whether square brackets are no subscript, as in `cart[item]`."""
    before = text.char_before(found)
    return text.names.has_root(found[1]) and not (before.isalnum() or before in "]_")


def _is_no_date(_found: re.Match[str], text: _Text) -> bool:
    return not text.is_date


def _is_in_prose(found: re.Match[str], text: _Text) -> bool:
    """Return whether `{}` or `{0}` is in prose: not in JSON, code or a regular expression."""
    is_all = text.rest.strip() == found[0] and text.where == "text"
    return text.where == "url" or not (is_all or text.is_code)


# No part of a pattern may be repeated without a bound: texts come from clients.
_INSIDE = r"[^{}]{0,200}"
_SPACE = r"\s{0,20}"
_WORD = r"[^\W\d]\w{0,80}"

_FORMS = (
    # {{item.id}}, { {item.id} } and ${item.id}, in which a right place stands
    _Form(re.compile(rf"\{{{_SPACE}{_FILLED}+{_SPACE}\}}"), _is_always),
    _Form(re.compile(rf"\${_FILLED}+"), _is_always),
    # {{ id | upper }}, ${id}, #{id}, %{id}, <%= item.id %>
    _Form(re.compile(rf"\{{\{{{_INSIDE}\}}\}}"), _is_always),
    _Form(re.compile(rf"[$#@%]\{{{_INSIDE}\}}"), _is_always),
    _Form(re.compile(r"<%[^<>]{0,200}%>"), _is_always),
    # { item.id }, {item['id']}, {item.id:>5}, {ITEM}, {items}, {'item'}, {item.id without an end
    _Form(re.compile(rf"\{{{_SPACE}({_WORD}){_INSIDE}\}}"), _has_root),
    _Form(re.compile(rf"\{{['\"]({_WORD}[\w.]{{0,80}})['\"]\}}"), _has_root),
    _Form(re.compile(rf"\{{{_SPACE}({_WORD})\.[\w.]{{1,80}}"), _has_root),
    # {id}, {user.id}, {id:int}
    _Form(re.compile(rf"\{{({_WORD}(?:[.:!?\[-][^{{}}\s]{{0,200}})?)\}}"), _is_alone),
    _Form(re.compile(r"\{\d{0,2}\}"), _is_in_prose),
    # <item.id>, <int:id>
    _Form(re.compile(rf"<{_SPACE}({_WORD}(?:[. -]\w{{1,80}}){{0,3}}){_SPACE}>"), _is_no_tag),
    _Form(re.compile(rf"<\w{{1,20}}:({_WORD})>"), _is_no_tag),
    # [item.id], [[item]]
    _Form(re.compile(rf"\[{{1,2}}({_WORD})[\w.]{{0,80}}\]{{1,2}}"), _is_no_subscript),
    # %(id)s, %s, %d, %item%
    _Form(re.compile(r"%\((\w{1,80})\)[a-z]"), _is_always),
    _Form(re.compile(r"%[sd](?![\w%])"), _is_no_date),
    _Form(re.compile(rf"%({_WORD})%"), _has_word),
    # $item, and a text that is nothing but item.id or item['id']
    _Form(re.compile(rf"\$({_WORD})"), _has_word),
    _Form(re.compile(rf"\A({_WORD})(?:\.\w{{1,80}}|\[[^\[\]]{{1,80}}\]){{1,9}}\Z"), _has_root),
)

_MORE: dict[Where, tuple[_Form, ...]] = {
    "url": (
        # /:id, what is encoded already, and % where nothing encoded follows
        _Form(re.compile(rf"(?<=/):({_WORD})"), _is_always),
        _Form(
            re.compile(rf"(?:%7[Bb]){{1,2}}(?:%20)?({_WORD}[\w.]{{0,80}})(?:%20)?%7[Dd]"),
            _is_always,
        ),
        _Form(re.compile(r"%(?![0-9A-Fa-f]{2})\w{0,20}"), _is_always),
    ),
    # $TOKEN: no variable of anybody's environment is put in
    "header": (_Form(re.compile(r"\$([A-Z_][A-Z0-9_]{2,80})"), _is_always),),
    "text": (),
}


def _first_word(name: str) -> str:
    """Return the first word of a name."""
    return re.split(r"\W", name, maxsplit=1)[0]


def _meant_name(text: str) -> str:
    """Return the name in what was found: `item.id` of `{{ item['id'] | upper }}`."""
    bare = re.sub(r"%7[BbDd]|%20|^<\w+:", " ", text)
    found = re.search(rf"{_WORD}(?:(?:\??\.|\[['\"]?)[\w-]{{1,80}}['\"]?\]?){{0,9}}", bare)
    if found is None or re.fullmatch(r"%\w*", text):
        return ""
    return ".".join(re.findall(r"[\w-]+", found[0]))

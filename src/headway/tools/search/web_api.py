"""`api`: an HTTP endpoint that searches and answers with JSON."""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast
from urllib.parse import quote, urlencode

import httpx2

from headway.tools.redaction import Secrets
from headway.tools.search.sources import Asked, Hit, Source, SourceFailed
from headway.tools.timing import Clock
from headway.tools.web.charsets import decode
from headway.tools.web.fetching import Answer, Ask, Fetcher, FetchFailed
from headway.tools.web.hosts import PORTS, Egress, Forbidden, Host, Hosts, Resolver, host_of

logger = logging.getLogger(__name__)

READ_LENGTH = 20_000
"""Characters of a title, a link or a snippet that are looked at; fewer are shown."""

LONGEST_NUMBER = 1000
"""Digits. One number of more must not spoil an answer; nobody counts with it here."""

PLACEHOLDER = re.compile(r"\{(query|limit)\}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The request to an endpoint, and the place of the hits in its answer.

    Paths are names and list positions with dots between: `data.items`, `results.0.hits`.
    """

    url: str
    """`{query}` and `{limit}` in it are encoded when they are put in; so are those of `params`."""
    hits: str
    """The path of the list; empty when the answer itself is the list."""
    title: str
    link: str
    snippet: str | None = None
    method: Literal["GET", "POST"] = "GET"
    params: Mapping[str, str] = field(default_factory=dict[str, str])
    """The query string of the URL."""
    body: object = None
    """JSON. A text that is nothing but `{limit}` becomes a number."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    private: bool = False
    """Whether its host may be at a private address."""
    seconds: float = 10.0
    largest: int = 5 * 1024 * 1024

    @property
    def host(self) -> str:
        """Return the name of the one host that is asked, also after a redirect."""
        return host_of(httpx2.URL(PLACEHOLDER.sub("1", self.url)))

    def hosts(self, egress: Egress) -> Hosts:
        """Return that host as the only allowed one; http may redirect to https."""
        url = httpx2.URL(PLACEHOLDER.sub("1", self.url))
        ports = (url.port,) if url.port else tuple(PORTS.values())
        return Hosts({host_of(url): Host(ports=ports, private=self.private)}, egress)

    def ask(self, query: str, limit: int) -> Ask:
        """Return the request for a query."""
        values: dict[str, str | int] = {"query": query, "limit": limit}

        def encoded(place: re.Match[str]) -> str:
            return quote(str(values[place[1]]), safe="", errors="replace")

        url = PLACEHOLDER.sub(encoded, self.url)
        if self.params:
            params = {name: str(filled(text, values)) for name, text in self.params.items()}
            url += ("&" if "?" in url else "?") + urlencode(params, errors="replace")
        if self.body is None:
            return Ask(self.method, url, self.headers)
        body = json.dumps(filled(self.body, values), ensure_ascii=False)
        headers = {"Content-Type": "application/json", **self.headers}
        return Ask(self.method, url, headers, body.encode(errors="replace"))


class Api(Source):
    """A search endpoint on the web."""

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        clock: Clock,
        resolver: Resolver | None = None,
        egress: Egress | None = None,
        secrets: Secrets | None = None,
    ) -> None:
        super().__init__(name)
        self._endpoint = endpoint
        self._hosts = endpoint.hosts(egress or Egress())
        self._secrets = (secrets or Secrets()) | Secrets.of_headers(endpoint.headers)
        self._clock = clock
        self._resolver = resolver

    async def search(self, asked: Asked) -> list[Hit]:
        """Return the endpoint's hits, in its order."""
        endpoint = self._endpoint
        fetcher = Fetcher(
            self._hosts,
            self._clock,
            largest=endpoint.largest,
            seconds=endpoint.seconds,
            resolver=self._resolver,
        )
        try:
            async with fetcher:
                answer = await fetcher.fetch(endpoint.ask(asked.query, asked.limit))
        except FetchFailed as failed:
            logger.warning("the source %r: %s", self.name, self._secrets.mask(str(failed)))
            raise SourceFailed(self._explain_failure(failed)) from failed
        if not 200 <= answer.status < 300:
            raise SourceFailed(f"it answered with status {answer.status}")
        return self._read_hits(answer)[: asked.limit]

    def _explain_failure(self, failed: FetchFailed) -> str:
        """Return why there is no answer, without names of hosts: these are the operator's."""
        if isinstance(failed.__cause__, Forbidden):
            return "it leads to where it is not allowed to, or to no http or https URL"
        return self._secrets.mask(str(failed)).replace(repr(self._endpoint.host), "its host")

    def _read_hits(self, answer: Answer) -> list[Hit]:
        text, problem = decode(answer.body, answer.headers.get("content-type"))
        try:
            found = at(json.loads(text, parse_int=_whole_number), self._endpoint.hits)
        except (ValueError, RecursionError) as error:
            raise SourceFailed(
                f"its answer is no JSON{f': {problem}' if problem else ''}"
            ) from error
        if not isinstance(found, list):
            raise SourceFailed(f"its answer has no list at {self._endpoint.hits or 'its top'!r}")
        listed = cast("list[object]", found)
        hits = [hit for each in listed if (hit := self._make_hit(each)) is not None]
        if listed and not hits:
            raise SourceFailed(f"none of its hits has text at {self._endpoint.link!r}")
        return hits

    def _make_hit(self, found: object) -> Hit | None:
        paths = (self._endpoint.link, self._endpoint.title, self._endpoint.snippet)
        link, title, snippet = (
            self._secrets.mask(_as_text(at(found, path))[:READ_LENGTH]) if path else ""
            for path in paths
        )
        return Hit(title or link, link, snippet) if link else None


def filled(template: object, values: Mapping[str, str | int]) -> object:
    """Return JSON with the values in its placeholders."""
    if isinstance(template, str):
        alone = PLACEHOLDER.fullmatch(template)
        if alone is not None:
            return values[alone[1]]
        return PLACEHOLDER.sub(lambda place: str(values[place[1]]), template)
    if isinstance(template, dict):
        pairs = cast("dict[str, object]", template).items()
        return {str(filled(key, values)): filled(value, values) for key, value in pairs}
    if isinstance(template, list):
        return [filled(value, values) for value in cast("list[object]", template)]
    return template


def at(value: object, path: str) -> object:
    """Return the value at a path of JSON; None where there is none."""
    for step in filter(None, path.split(".")):
        if isinstance(value, dict):
            value = cast("dict[str, object]", value).get(step)
        elif isinstance(value, list) and step.isascii() and step.isdigit():
            listed = cast("list[object]", value)
            place = int(step[:9])
            value = listed[place] if place < len(listed) else None
        else:
            return None
    return value


def _whole_number(digits: str) -> int | str:
    """Return a whole number, or its digits where Python would refuse to read so many."""
    return int(digits) if len(digits) <= LONGEST_NUMBER else digits


def _as_text(value: object) -> str:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""

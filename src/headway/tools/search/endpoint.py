"""`api`: an HTTP endpoint that searches and answers with JSON."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast
from urllib.parse import quote, urlencode

import httpx2

from headway.tools.search.sources import Asked, Hit, Source, SourceFailed
from headway.tools.timing import Clock
from headway.tools.web.fetching import Ask, Fetcher, FetchFailed
from headway.tools.web.hosts import PORTS, Host, Hosts, Resolver, host_of

PLACE = re.compile(r"\{(query|limit)\}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to ask, and where the hits are in the answer.

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
    """What is added to the URL behind its `?`."""
    body: object = None
    """JSON. A text that is nothing but `{limit}` becomes a number."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    private: bool = False
    """Whether its host may be at a private address."""
    seconds: float = 10.0
    largest: int = 5 * 1024 * 1024

    @property
    def hosts(self) -> Hosts:
        """The one host that is asked, also after a redirect; http may lead to https."""
        url = httpx2.URL(PLACE.sub("1", self.url))
        ports = (url.port,) if url.port else tuple(PORTS.values())
        return Hosts({host_of(url): Host(ports=ports, private=self.private)})

    def ask(self, query: str, limit: int) -> Ask:
        """The request for a query."""
        values: dict[str, str | int] = {"query": query, "limit": limit}

        def encoded(place: re.Match[str]) -> str:
            return quote(str(values[place[1]]), safe="", errors="replace")

        url = PLACE.sub(encoded, self.url)
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
        self, name: str, endpoint: Endpoint, clock: Clock, resolver: Resolver | None = None
    ) -> None:
        super().__init__(name)
        self._endpoint = endpoint
        self._hosts = endpoint.hosts
        self._clock = clock
        self._resolver = resolver

    async def search(self, asked: Asked) -> list[Hit]:
        """The endpoint's hits, in its order."""
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
            raise SourceFailed(str(failed)) from failed
        if not 200 <= answer.status < 300:
            raise SourceFailed(f"it answered with status {answer.status}")
        return self._read(answer.body)[: asked.limit]

    def _read(self, body: bytes) -> list[Hit]:
        try:
            found = at(json.loads(body), self._endpoint.hits)
        except (ValueError, RecursionError) as error:
            raise SourceFailed("its answer is no JSON") from error
        if not isinstance(found, list):
            raise SourceFailed(f"its answer has no list at {self._endpoint.hits or 'its top'!r}")
        listed = cast("list[object]", found)
        hits = [hit for each in listed if (hit := self._hit(each)) is not None]
        if listed and not hits:
            raise SourceFailed(f"none of its hits has text at {self._endpoint.link!r}")
        return hits

    def _hit(self, found: object) -> Hit | None:
        link = _text(at(found, self._endpoint.link))
        title = _text(at(found, self._endpoint.title))
        snippet = _text(at(found, self._endpoint.snippet)) if self._endpoint.snippet else ""
        return Hit(title or link, link, snippet) if link else None


def filled(template: object, values: Mapping[str, str | int]) -> object:
    """JSON with the values in its places."""
    if isinstance(template, str):
        alone = PLACE.fullmatch(template)
        if alone is not None:
            return values[alone[1]]
        return PLACE.sub(lambda place: str(values[place[1]]), template)
    if isinstance(template, dict):
        pairs = cast("dict[str, object]", template).items()
        return {key: filled(value, values) for key, value in pairs}
    if isinstance(template, list):
        return [filled(value, values) for value in cast("list[object]", template)]
    return template


def at(value: object, path: str) -> object:
    """What is at a path of JSON; None when there is nothing."""
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


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""

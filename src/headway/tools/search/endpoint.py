"""`api`: an HTTP endpoint that searches and answers with JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import quote

import httpx2

from headway.tools.search.sources import Asked, Hit, Source, SourceFailed
from headway.tools.timing import Clock
from headway.tools.web.fetching import Ask, Fetcher, FetchFailed
from headway.tools.web.hosts import PORTS, Host, Hosts, Resolver

QUERY = "{query}"
LIMIT = "{limit}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to ask, and where the hits are in the answer.

    Paths are names and list positions with dots between: `data.items`, `results.0.hits`.
    """

    url: str
    """With `{query}` and perhaps `{limit}`, which are encoded when they are put in."""
    hits: str
    """The path of the list; empty when the answer itself is the list."""
    title: str
    link: str
    snippet: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    private: bool = False
    """Whether its host may be at a private address."""
    seconds: float = 10.0
    largest: int = 5 * 1024 * 1024

    @property
    def hosts(self) -> Hosts:
        """The one host that is asked, also after a redirect; http may lead to https."""
        url = httpx2.URL(self.url.replace(QUERY, "q").replace(LIMIT, "1"))
        ports = (url.port,) if url.port else tuple(PORTS.values())
        return Hosts({url.host: Host(ports=ports, private=self.private)})


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
        url = endpoint.url.replace(QUERY, quote(asked.query, safe="", errors="replace"))
        ask = Ask("GET", url.replace(LIMIT, str(asked.limit)), endpoint.headers)
        fetcher = Fetcher(
            self._hosts,
            self._clock,
            largest=endpoint.largest,
            seconds=endpoint.seconds,
            resolver=self._resolver,
        )
        try:
            async with fetcher:
                answer = await fetcher.fetch(ask)
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

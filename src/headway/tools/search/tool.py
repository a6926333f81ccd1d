"""`search`: many sources at once, each one's hits as soon as it has them.

The tool reads top to bottom: choose the sources, ask all of them, take the answers as they come,
merge them. A source that fails or hangs is reported, and does not spoil the rest.
"""

import asyncio
import contextlib
import logging
import re
import traceback
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, Field

from headway import log, part, report
from headway.tools.redaction import Secrets
from headway.tools.roots import printable_name
from headway.tools.search.cache import Cache
from headway.tools.search.fusion import Merged, fuse
from headway.tools.search.sources import Asked, Hit, Source, SourceFailed, terms_of
from headway.tools.timing import Clock, SystemClock, within

logger = logging.getLogger(__name__)

DEADLINE = 20.0
"""Seconds for all sources together: well within what any client waits."""

KEEPING = 1.0
"""Seconds that a result waits for a cache to have it."""

QUERY_LENGTH = 1000

Query = Annotated[
    str,
    Field(
        min_length=1,
        max_length=QUERY_LENGTH,
        description='Words to find, all of them; "words in quotes" are one phrase. There are no '
        "operators: no AND, OR, NOT, no - or + before a word, no wildcards, no field:word.",
    ),
]
Names = Annotated[
    list[Annotated[str, Field(max_length=100)]] | None,
    Field(description="Which sources to ask; all of them when left out.", max_length=100),
]
Limit = Annotated[int, Field(ge=1, le=100, description="How many hits, at most.")]


class FoundHit(BaseModel):
    """A hit of the merged answer, the best first."""

    title: str
    link: str = Field(description="A URL, or the path of a file")
    snippet: str
    score: float = Field(description="Reciprocal rank fusion over the sources")
    sources: list[str]
    age: float | None = Field(
        default=None, description="Seconds since it was found, where that was earlier and not now"
    )


class SourceReport(BaseModel):
    """What came of one source."""

    source: str
    status: Literal["complete", "failed", "missing"]
    hits: int = 0
    seconds: float
    reason: str | None = None


class SearchResult(BaseModel):
    """What was found, and who was asked."""

    query: str
    hits: list[FoundHit]
    complete: bool = Field(description="Whether every source that was asked has answered")
    sources: list[SourceReport]
    notes: list[str] = Field(
        default=[], description="What in the query looks like an operator and was taken as a word"
    )


class Answered(NamedTuple):
    """The answer of one source."""

    source: Source
    hits: list[Hit]
    seconds: float
    reason: str | None


class SearchTool:
    """The tool that asks `sources`; a cache among them keeps what the others answer."""

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        deadline: float = DEADLINE,
        clock: Clock | None = None,
        secrets: Secrets | None = None,
    ) -> None:
        self._secrets = secrets or Secrets()
        self._sources = {source.name: source for source in sources}
        self._caches = [source for source in sources if isinstance(source, Cache)]
        self._deadline = deadline
        self._clock = clock or SystemClock()

    async def search(self, query: Query, sources: Names = None, limit: Limit = 10) -> SearchResult:
        """Search many sources at once; each source's hits are a partial result as they come.

        A source that fails or does not answer in time is named in the result and does not keep
        the others from theirs. Ranks are merged: what several sources find comes first.
        """
        chosen = self._choose_sources(sources)
        terms = terms_of(query)
        if not terms:
            raise ToolError("The query has no words; say what to look for")
        asked = Asked(query, terms, limit, tuple(source.name for source in chosen))
        answers = await self._ask_all(chosen, asked)
        await self._keep_in_caches(asked, answers)
        return self._make_result(asked, chosen, answers)

    def _choose_sources(self, names: list[str] | None) -> list[Source]:
        if names is None:
            return list(self._sources.values())
        unknown = [printable_name(name)[:60] for name in names if name not in self._sources]
        if unknown or not names:
            there_are = ", ".join(self._sources)
            what = f"no source {', '.join(unknown)}" if unknown else "no source to ask"
            raise ToolError(f"There is {what}; the sources are: {there_are}")
        return [self._sources[name] for name in dict.fromkeys(names)]

    async def _ask_all(self, sources: list[Source], asked: Asked) -> list[Answered]:
        """Return the answers that came in time."""
        report(0, len(sources), f"Asking {', '.join(asked.sources)}")
        answers: list[Answered] = []
        asking = [asyncio.create_task(self._ask(source, asked)) for source in sources]
        try:
            async with within(self._clock, self._deadline):
                for next_answer in asyncio.as_completed(asking):
                    answers.append(await next_answer)
                    self._report_answers(answers, len(sources))
        except TimeoutError:
            pass  # whoever has not answered is missing
        finally:
            for task in asking:
                task.cancel()
            # A source may have its own way to end; nobody waits for it longer than a moment.
            await asyncio.wait(asking, timeout=1)
        return answers

    async def _ask(self, source: Source, asked: Asked) -> Answered:
        begin = self._clock.now()
        hits, reason = list[Hit](), None
        try:
            hits = [hit.tidy() for hit in await source.search(asked)][: asked.limit]
        except SourceFailed as failed:
            reason = str(failed)
        except Exception:  # noqa: BLE001 - a source's library may raise anything; the others go on
            # Not with `exception`: what a library says may have a key in it.
            told = self._secrets.mask(traceback.format_exc())
            logger.error("the source %r raised: %s", source.name, told)
            reason = "it failed for a reason that is in the server's log"
        return Answered(source, hits, self._clock.now() - begin, reason)

    async def _keep_in_caches(self, asked: Asked, answers: list[Answered]) -> None:
        """Give the caches the hits of this search, once all sources have answered."""
        found = {
            answer.source.name: answer.hits
            for answer in answers
            if answer.reason is None and answer.source not in self._caches
        }
        if found and self._caches:
            with contextlib.suppress(TimeoutError):  # it goes on writing, and nobody waits
                async with within(self._clock, KEEPING):
                    await asyncio.gather(*(cache.keep(asked, found) for cache in self._caches))

    def _report_answers(self, answers: list[Answered], total: int) -> None:
        newest = answers[-1]
        name, seconds = newest.source.name, round(newest.seconds, 3)
        if newest.reason is None:
            hits = [_shown_hit(hit) for hit in newest.hits]
            self._say(name, {"source": name, "hits": hits, "seconds": seconds})
            said = f"{name}: {len(hits)} hits"
        else:
            part({"source": name, "error": newest.reason, "seconds": seconds})
            log(f"{name} failed: {newest.reason}", "warning")
            said = f"{name} failed"
        report(len(answers), total, said)

    def _say(self, name: str, said: dict[str, object]) -> None:
        """Send a part; one that is too large for the server must not end the search."""
        try:
            part(said)
        except ValueError as error:
            log(f"{name}: its hits are in the result only ({error})"[:300], "warning")

    def _make_result(
        self, asked: Asked, sources: list[Source], answers: list[Answered]
    ) -> SearchResult:
        reports = {answer.source.name: _report_of(answer) for answer in answers}
        for source in sources:
            if source.name not in reports:
                reason = f"no answer within {self._deadline:g} s"
                reports[source.name] = SourceReport(
                    source=source.name, status="missing", seconds=self._deadline, reason=reason
                )
                log(f"{source.name}: {reason}", "warning")
        return SearchResult(
            query=asked.query,
            hits=[_found_hit(one) for one in fuse(_rank_by_source(answers), asked.limit)],
            complete=all(each.status == "complete" for each in reports.values()),
            sources=[reports[source.name] for source in sources],
            notes=operators_in(asked.query),
        )


_OPERATORS = (
    (
        r"(?<!\S)(?:AND|OR|NOT|NEAR(?:/\d+)?)(?!\S)",
        "is a word like others; all words are looked for anyway",
    ),
    (r"(?<!\S)[-+][^\W\d]\w*", "takes nothing out and demands nothing; it is a word"),
    (r"(?<!\S)\w+\*(?!\S)", "is no wildcard; write the whole word"),
    (r"(?<!\S)[a-z]{2,20}:[^\W\d][^\s/]*", "names no field; both are words"),
    (r"(?<!\S)/\S+/(?!\S)", "is no regular expression; it is a word"),
)
"""Operators of other search engines, and how each is treated here."""


def operators_in(query: str) -> list[str]:
    """Return the parts of a query that look like operators, and how each is treated."""
    bare = re.sub(r'"[^"]*"', " ", query)
    found = ((each[0], says) for pattern, says in _OPERATORS for each in re.finditer(pattern, bare))
    return [f"{printable_name(text[:60])!r} {says}" for text, says in dict(found).items()][:5]


def _rank_by_source(answers: list[Answered]) -> dict[str, list[Hit]]:
    """Return the hits by source; a cache adds only hits of sources that give no answer now."""
    present = {answer.source.name for answer in answers if answer.reason is None}
    return {
        answer.source.name: [hit for hit in answer.hits if hit.origin not in present]
        for answer in answers
    }


def _shown_hit(hit: Hit) -> dict[str, object]:
    """Return a hit in a part, with its age where it has one."""
    shown: dict[str, object] = {"title": hit.title, "link": hit.link, "snippet": hit.snippet}
    if hit.age is not None:
        shown |= {"source": hit.origin, "age": round(hit.age)}
    return shown


def _report_of(answer: Answered) -> SourceReport:
    return SourceReport(
        source=answer.source.name,
        status="complete" if answer.reason is None else "failed",
        hits=len(answer.hits),
        seconds=round(answer.seconds, 3),
        reason=answer.reason,
    )


def _found_hit(one: Merged) -> FoundHit:
    return FoundHit(
        title=one.hit.title,
        link=one.hit.link,
        snippet=one.hit.snippet,
        score=round(one.score, 6),
        sources=one.sources,
        age=None if one.hit.age is None else round(one.hit.age),
    )

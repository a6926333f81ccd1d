"""One ranking out of many, by reciprocal rank fusion.

A hit's score is the sum of `1 / (60 + rank)` over the sources that have it: sources need not know
each other's scores, and what several find goes up. (Cormack, Clarke and Büttcher, SIGIR 2009.)
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from headway.tools.search.sources import Hit

K = 60
"""How little the first places count more than the next; the value of the paper."""


@dataclass(slots=True)
class Merged:
    """A hit, and who found it."""

    hit: Hit
    score: float = 0.0
    sources: list[str] = field(default_factory=list[str])


def fuse(rankings: Mapping[str, Iterable[Hit]], limit: int) -> list[Merged]:
    """Return the best of all rankings; two hits with the same link are one, told in the words of
    the source that ranks it higher, before those of an earlier answer."""
    merged: dict[str, Merged] = {}
    best: dict[str, tuple[bool, int]] = {}
    for source, hits in rankings.items():
        for rank, hit in enumerate(hits, start=1):
            one = merged.setdefault(hit.link, Merged(hit))
            if source in one.sources:
                continue  # a source that repeats itself has no second vote
            one.score += 1 / (K + rank)
            one.sources.append(source)
            place = (hit.age is not None, rank)
            if place < best.get(hit.link, (True, rank + 1)):
                best[hit.link], one.hit = place, hit
    return sorted(merged.values(), key=lambda one: -one.score)[:limit]

"""`/metrics` as a monitoring system reads it."""

from collections.abc import Callable

from prometheus_client.parser import text_string_to_metric_families
from tests.kit.peers import Wire
from tests.kit.waits import within


class Numbers:
    """One scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = list(text_string_to_metric_families(text))
        self.samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        return self.samples[f"headway_{name}", frozenset(labels.items())]

    def labels(self, name: str, label: str) -> set[str]:
        """The values that a label has in all samples of a name."""
        pairs = [pairs for found, pairs in self.samples if found == f"headway_{name}"]
        return {dict(labels)[label] for labels in pairs}


async def scrape(wire: Wire) -> Numbers:
    numbers = await _scrape(wire)
    assert numbers is not None, "there was no room for one more connection"
    return numbers


async def _scrape(wire: Wire) -> Numbers | None:
    answer = await wire.ask("GET", {"Connection": "close"}, path="/metrics")
    body = (await answer.body()).decode()
    if answer.status == 503:
        return None
    assert answer.status == 200, body
    return Numbers(body)


async def scraped(wire: Wire, is_so: Callable[[Numbers], object]) -> Numbers:
    """The first scrape of which that is so; what it waits for is on its way."""

    async def look() -> Numbers:
        while (numbers := await _scrape(wire)) is None or not is_so(numbers):
            pass
        return numbers

    return await within(look())

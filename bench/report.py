"""Renders what was measured: a table of medians, the targets below it, and all of it as JSON."""

import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from bench.contenders import Contender
from bench.measure import CONCURRENCIES, STREAMS, Samples
from bench.processes import PINNED
from bench.targets import verdicts
from bench.wire import ERAS

GENERATOR_NEEDS = 400_000
"""Events a second that the load generator must take in, or it would be what is measured."""
_WIDTH = 12


@dataclass(frozen=True, slots=True)
class Row:
    """A figure in the table."""

    label: str
    figure: str
    scale: float = 1.0
    digits: int = 0


def rows() -> Iterator[Row]:
    """The table's rows, in order."""
    for era in ERAS:
        for n in CONCURRENCIES:
            yield Row(f"tool calls/s · {era} · {n} conn", f"calls.{era}.{n}.rate")
            yield Row("  CPU ms / 1,000 calls", f"calls.{era}.{n}.cpu", digits=1)
    for era in ERAS:
        for n in STREAMS:
            yield Row(f"events/s · {era} · {n} streams", f"events.{era}.{n}.rate")
            yield Row("  CPU ms / 1,000 events", f"events.{era}.{n}.cpu", digits=2)
    for era in ERAS:
        yield Row(f"paced streams, CPU % · {era}", f"paced.{era}.percent", digits=1)
    yield Row("process at rest, MB", "memory.at_rest", 1e-6, 1)
    yield Row("idle 2025 session, kB", "memory.idle_session", 1e-3, 1)
    yield Row("session + open GET, kB", "memory.get_stream", 1e-3, 1)
    yield Row("open 2026 listen, kB", "memory.listen_stream", 1e-3, 1)
    yield Row("import, s", "startup.import", digits=2)
    yield Row("spawn to first answer, s", "startup.first", digits=2)


def table(samples: Samples, contenders: Sequence[Contender]) -> str:
    """Medians, a column a server; a dot for what was not measured or is not offered."""
    names = [contender.name for contender in contenders]
    headings = [name.rpartition("-")[2] for name in names]
    lines = [" " * 32 + "".join(f"{heading:>{_WIDTH}}" for heading in headings)]
    for row in rows():
        medians = [samples.median(name, row.figure) for name in names]
        if any(median is not None for median in medians):
            cells = ("·" if m is None else f"{m * row.scale:,.{row.digits}f}" for m in medians)
            lines.append(f"{row.label:<32}" + "".join(f"{cell:>{_WIDTH}}" for cell in cells))
    return "\n".join(lines)


def targets(samples: Samples) -> str:
    """A line a target: reached or short."""
    lines: list[str] = []
    for verdict in verdicts(samples):
        if verdict.got is not None:
            word = "reached" if verdict.reached else "SHORT"
            by_cpu = "" if verdict.by_cpu is None else f"{verdict.by_cpu:.2f}x by CPU"
            lines.append(
                f"{verdict.what:<60}{verdict.target:>9}{verdict.text:>10}  {word:<9}{by_cpu:>13}"
            )
    return "\n".join(lines) or "no target was measured"


def company(samples: Samples) -> str | None:
    """Whether others used the machine meanwhile."""
    if samples.others is None:
        return None
    advice = "; where it is much, the figures by CPU are the steadier ones" * (
        samples.others > 0.05
    )
    return (
        f"other processes used {samples.others:.0%} of the machine while speed was measured{advice}"
    )


def generator(samples: Samples) -> str | None:
    """Whether the load generator was fast enough, judged by the batching floor."""
    best = max(
        (samples.median("floor-batch", f"events.{era}.1.rate") or 0.0 for era in ERAS), default=0.0
    )
    if not best:
        return None
    verdict = "fast enough" if best >= GENERATOR_NEEDS else "TOO SLOW HERE: it may be the limit"
    return (
        f"load generator: {best:,.0f} events/s from floor-batch (> {GENERATOR_NEEDS:,}): {verdict}"
    )


def conditions() -> dict[str, Any]:
    """What the figures hold for."""
    packages = ("mcp", "fastmcp", "uvicorn", "uvloop", "httptools", "headway")
    versions: dict[str, str] = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "pinned": PINNED,
        "load_average": os.getloadavg()[0],
        **versions,
    }


def as_json(samples: Samples, facts: dict[str, Any]) -> str:
    """Everything, every sample with it."""
    medians = {
        name: {figure: samples.median(name, figure) for figure in figures}
        for name, figures in samples.values.items()
    }
    document = {
        "conditions": {**facts, "others": samples.others},
        "medians": medians,
        "targets": [asdict(verdict) for verdict in verdicts(samples)],
        "problems": samples.problems,
        "samples": samples.values,
    }
    return json.dumps(document, indent=2)

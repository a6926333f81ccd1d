"""A storm: callers of every kind at work, each call counted, until the last one has ended."""

import argparse
import asyncio
import random
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.callers import Caller, Lost
from tests.chaos.hearing import Unexpected
from tests.chaos.rest import say
from tests.chaos.tally import Call, Tally

Way = Callable[[Caller, Call], Awaitable[None]]


@dataclass(frozen=True)
class Kind:
    """A way to be a caller, the tools that are called in it, and whether with a key."""

    name: str
    way: Way
    tools: tuple[str, ...]
    keyed: bool
    callers: int = 1
    """How many call with the same key at once."""


def _persisting(name: str) -> Way:
    async def way(caller: Caller, call: Call) -> None:
        await caller.persist(call, getattr(caller, name))

    return way


ONCE = ("plain", "threaded")
ANEW = ("anew", "anew_threaded", "counted")

HEADWAY = (
    Kind("2025 resumes", Caller.resume, (*ONCE, *ANEW), keyed=False),
    Kind("2025 with a key", Caller.resume, (*ONCE, *ANEW), keyed=True),
    Kind("2025 task", _persisting("task_2025"), ("plain", "anew", "counted"), keyed=True),
    Kind("2025 handle", _persisting("handle_2025"), ("handed", "handed_anew"), keyed=True),
    Kind("2026 detached", Caller.modern, ("kept", "anew", "counted"), keyed=True),
    Kind("2026 with a key", Caller.modern, ONCE, keyed=True),
    Kind("2026", Caller.modern, ("plain", "threaded", "anew"), keyed=False),
    Kind("2026 task", _persisting("task"), ("tasked", "tasked_anew"), keyed=True),
    Kind("2026 handle", _persisting("handle"), ("handed", "handed_anew"), keyed=True),
    Kind("2026 crowd", Caller.modern, ("kept", "counted"), keyed=True, callers=3),
    Kind("2025 crowd", Caller.resume, ("plain", "anew"), keyed=True, callers=3),
)

THREADED = Kind("2026", Caller.modern, ("threaded",), keyed=False)

SDK = (
    Kind("2025 resumes", Caller.resume, ("plain",), keyed=False),
    Kind("2025 sends again", Caller.resume, ("plain",), keyed=True),
    Kind("2026 sends again", Caller.modern, ("plain",), keyed=True),
    Kind("2026", Caller.modern, ("plain",), keyed=False),
)


class Storm:
    """The callers of one storm, and what they count.

    `patience` is how long calls may take when nothing happens to the servers any more, `grace`
    what one may take besides; `pauses` are the least and most seconds between a tool's steps.
    """

    name = "storm"

    def __init__(
        self,
        seed: int,
        kinds: tuple[Kind, ...],
        place: Path,
        *,
        patience: float,
        grace: float = 0.0,
        callers: int = 10,
        pauses: tuple[float, float] = (0.002, 0.08),
    ) -> None:
        self.seed = seed
        self.kinds = kinds
        self.place = place
        self.ledger = place / "ledger"
        self.tally = Tally()
        self.callers: list[Caller] = []
        self.patience = patience
        self._grace = grace
        self._many = callers
        self._pauses = pauses
        self._jobs = 0

    async def run(self) -> None:
        """All of it."""
        raise NotImplementedError

    def say(self, what: str) -> None:
        """Print something about it."""
        say(self.name, what)

    def chance(self, role: str) -> random.Random:
        return random.Random(f"{self.seed} {role}")

    def caller(self, origin: str, role: str) -> Caller:
        caller = Caller(origin, self.tally, self.chance(role), 0.2)
        self.callers.append(caller)
        return caller

    async def storm(
        self,
        origin: str,
        role: str,
        seconds: float,
        meanwhile: Callable[[asyncio.Event], Awaitable[None]] | None = None,
    ) -> None:
        """Callers at work until the time is up, and then until their last call has ended."""
        until = time.monotonic() + seconds
        workers = [
            asyncio.create_task(self._work(self.caller(origin, f"{role} {n}"), until))
            for n in range(self._many)
        ]
        over = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                if meanwhile is not None:
                    group.create_task(_done(meanwhile(over)))
                await asyncio.wait(workers, timeout=seconds)
                over.set()
            done, late = await asyncio.wait(workers, timeout=self.patience)
            self.tally.count("callers that hung", len(late))
            for task in done:
                task.result()
        finally:
            for task in workers:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, caller: Caller, until: float) -> None:
        while time.monotonic() < until:
            await self.one(caller, caller.chance.choice(self.kinds))
            if caller.chance.random() < 0.1:
                await self.guarded(caller.leave(), None)

    async def one(self, caller: Caller, kind: Kind) -> None:
        """A call, or several at once that are to be one."""
        chance = caller.chance
        self._jobs += 1
        job = f"{self.seed}-{self._jobs}"
        steps = chance.randint(1, 20)
        arguments: dict[str, object] = {
            "job": job,
            "steps": steps,
            "pause": round(chance.uniform(*self._pauses), 3),
        }
        tool = chance.choice(kind.tools)
        key = f"key-{job}" if kind.keyed else None
        calls = [Call(job, kind.name, tool, steps, arguments, key) for _ in range(kind.callers)]
        self.tally.calls += calls
        friends = [self.caller(f"http://{caller.line.host}:{caller.line.port}", f"{job} {n}")
                   for n in range(1, kind.callers)]  # fmt: skip
        ways = [kind.way(one, call) for one, call in zip([caller, *friends], calls, strict=True)]
        guarded = [self.guarded(way, call) for way, call in zip(ways, calls, strict=True)]
        await asyncio.gather(*guarded)
        for friend in friends:
            await self.guarded(friend.leave(), None)

    async def guarded(self, work: Awaitable[None], call: Call | None) -> None:
        try:
            async with asyncio.timeout(self.patience + self._grace):
                await work
        except TimeoutError:
            if call is None:  # else the judge sees that it has no end
                self.tally.violation("a session could not be closed")
        except (Unexpected, KeyError) as error:
            self.tally.violation(f"{type(error).__name__}: {error}", call)
        except Lost:
            self.tally.violation("a caller gave up", call)

    async def read_again(self, origin: str) -> None:
        """Every result is still there, by its key; and every stream, from its first event on."""
        caller = self.caller(origin, "again")
        keyed = [call for call in self.tally.calls if call.key and call.ended in ("result",)]
        for call in caller.chance.sample(keyed, min(len(keyed), 100)):
            again = Call(call.job, f"{call.kind} (again)", call.tool, call.steps, call.arguments)
            again.key = call.key
            self.tally.calls.append(again)
            await self.guarded(caller.modern(again), again)
            self.tally.count("results read again")
        for one in self.callers:
            for session, call, stream in one.streams[-10:]:
                if one.session is session and stream.first is not None:
                    await self.guarded(one.read_again(call, stream), call)


@asynccontextmanager
async def meanwhile(work: Coroutine[Any, Any, None]):
    """Something that goes on until the end of the context."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        await _stopped(task)


async def _done(work: Awaitable[None]) -> None:
    await work


async def _stopped(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def asking(program: str, about: str | None, *, seconds: float) -> argparse.ArgumentParser:
    """What every storm can be asked."""
    parser = argparse.ArgumentParser(prog=program, description=about)
    parser.add_argument("--seconds", type=float, default=seconds)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep", action="store_true", help="keep what was written")
    return parser


def play(
    kind: Callable[[argparse.Namespace, Path], Storm], options: argparse.Namespace, *, what: str
) -> int:
    """Play a storm in a place of its own; the exit code."""
    if options.seed is None:
        options.seed = secrets.randbelow(1_000_000)
    place = Path(tempfile.mkdtemp(prefix="headway-storm-"))
    storm = kind(options, place)
    storm.say(f"{what}, {options.seconds:g} s, seed {options.seed}, {place}")
    try:
        asyncio.run(storm.run())
        return report(storm)
    finally:
        if not options.keep:
            shutil.rmtree(place)


def report(storm: Storm) -> int:
    """Print what was counted and found; the exit code."""
    tally = storm.tally
    tally.count("calls", len(tally.calls))
    tally.count("kills", tally.kills)
    tally.count("terms", len(tally.deaths) - tally.kills)
    lines = [f"  {name:<62}{number:>8}" for name, number in sorted(tally.counts.items())]
    for title, found in (("renumbered", tally.renumbered), ("violations", tally.violations)):
        lines.append(f"{title} {len(found)}")
        lines += [f"  {len(those)} × {kind}, as {those[0]}" for kind, those in _by_kind(found)]
    if tally.violations:
        lines.append(f"repeat with --seed {storm.seed}")
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if tally.violations else 0


def _by_kind(found: list[str]) -> list[tuple[str, list[str]]]:
    """What was found, those together that say the same of other calls; the most frequent first."""
    kinds: dict[str, list[str]] = {}
    for text in found:
        said = text.partition(" (")[0].partition(":")[0]
        kinds.setdefault(re.sub(r"\d[\d-]*", "n", said), []).append(text[:200])
    return sorted(kinds.items(), key=lambda kind: -len(kind[1]))

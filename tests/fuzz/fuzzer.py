"""The loop: inputs of every kind, what broke, and what was left behind."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from tests.fuzz import strategies
from tests.fuzz.mutate import hostile, hostile_line, mutated, mutated_line
from tests.fuzz.servers import HttpServer, PipeServer
from tests.fuzz.target import Figures
from tests.fuzz.wire import Broken

CORPUS = Path(__file__).with_name("corpus")

RENEW_EVERY = 100
"""Inputs until the world begins anew: its sessions may have been closed, its task cancelled."""

BATCH = 1000
"""Inputs with one seed of Hypothesis, and with one process on a pipe."""

MOST = 5
"""Findings until it is enough."""

ROOM = 64 * 2**20
"""Bytes that a process may have grown by in the end: twice what it begins with, about."""

A_FEW = 2
"""Streams of the journal that are there when nothing goes on."""

SHARES = {
    "mutated": 0.5, "hostile": 0.1, "made": 0.22, "line": 0.1, "hostile-line": 0.02,
    "made-line": 0.06,
}  # fmt: skip
"""What part of the inputs is of which kind."""


@dataclass(frozen=True)
class Finding:
    """An input that broke something. `data` has names in place of what only one server knows."""

    kind: str
    data: bytes
    error: str

    @property
    def is_line(self) -> bool:
        return self.kind.endswith("line")

    def save(self) -> Path:
        """Keep the input among those that are tried first from now on."""
        ending = "line" if self.is_line else "http"
        name = hashlib.sha256(self.data).hexdigest()[:12]
        path = CORPUS / f"{name}.{ending}"
        path.write_bytes(self.data)
        return path


@dataclass
class Fuzzer:
    """Sends inputs to fresh servers; `findings` is what came of it."""

    seed: int
    say: Callable[[str], object] = lambda _: None
    findings: list[Finding] = field(default_factory=list[Finding])
    sent: int = 0

    def run(self, count: int) -> list[Finding]:
        """Send `count` inputs and give what they broke."""
        with ExitStack() as stack:
            self._http = HttpServer()
            stack.callback(lambda: self._http.__exit__())
            before = self._rest()
            self.say(f"at rest:   {before}")
            number = 0
            while self.sent < count and not self._is_enough:
                self._batch(number, min(BATCH, count - self.sent))
                number += 1
                if number % 10 == 0:
                    self.say(f"{self.sent:>8} inputs, {len(self.findings)} findings")
            after = self._check_growth(before)
            self.say(f"at the end: {after}")
        return self.findings

    @property
    def _is_enough(self) -> bool:
        return len(self.findings) >= MOST

    def _batch(self, number: int, size: int) -> None:
        shares = {kind: max(1, int(size * share)) for kind, share in SHARES.items()}
        seed = self.seed * 1_000_003 + number
        rng = Random(seed)
        for at in range(shares["mutated"]):
            if at % RENEW_EVERY == RENEW_EVERY - 1:
                self._http.renew()
            self._try("mutated", mutated(rng, self._http.world))
        for _ in range(shares["hostile"]):
            self._try("hostile", hostile(rng, self._http.world))
        self._make("made", seed, shares["made"])
        with PipeServer() as self._pipe:
            for _ in range(shares["line"]):
                self._try("line", mutated_line(rng, self._pipe.world))
            for _ in range(shares["hostile-line"]):
                self._try("hostile-line", hostile_line(rng, self._pipe.world))
            self._make("made-line", seed, shares["made-line"])
            self._settle_pipe()

    def _strike(self, kind: str, data: bytes) -> None:
        if kind.endswith("line"):
            self._pipe.strike(data)
        else:
            self._http.strike(data)

    def _try(self, kind: str, data: bytes) -> None:
        if self._is_enough:
            return
        self.sent += 1
        try:
            self._strike(kind, data)
        except Broken as error:
            self._found(kind, data, error)

    def _make(self, kind: str, seed: int, count: int) -> None:
        """Inputs made by Hypothesis, which looks for the smallest one that breaks the server."""
        last = b""
        kinds = {"made": strategies.requests, "made-line": strategies.lines}

        @seeded(seed)
        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )
        @given(st.data())
        def strike(data: st.DataObject) -> None:
            nonlocal last
            server = self._pipe if kind == "made-line" else self._http
            last = data.draw(kinds[kind](server.world))
            self.sent += 1
            self._strike(kind, last)

        if self._is_enough:
            return
        try:
            strike()
        except Flaky as error:
            self._found(kind, last, Broken(f"once, and not again: {error}"))
        except Broken as error:
            self._found(kind, last, error)

    def _found(self, kind: str, data: bytes, error: Broken) -> None:
        world = self._pipe.world if kind.endswith("line") else self._http.world
        finding = Finding(kind, world.hide(data), str(error))
        self.findings.append(finding)
        self.say(f"\n{kind}: {error}\n  {finding.data[:2000]!r}\n  kept as {finding.save()}")
        # What comes next must not be blamed for it.
        if kind.endswith("line"):
            self._pipe.__exit__()
            self._pipe = PipeServer()
        else:
            self._http.__exit__()
            self._http = HttpServer()

    # Growth

    def _rest(self) -> Figures:
        self._http.leave()
        figures = self._http.settle(_is_at_rest)
        self._http.renew()
        return figures

    def _check_growth(self, before: Figures) -> Figures:
        after = self._rest()
        grown = [
            name
            for name in ("sessions", "runs", "answers", "tasks", "fds")
            if getattr(after, name) > getattr(before, name)
        ]
        if after.streams > A_FEW:
            grown.append("streams")
        if after.rss > before.rss + ROOM:
            grown.append("rss")
        if grown:
            error = f"{', '.join(grown)} grew: {before} -> {after}"
            self.findings.append(Finding("growth", b"", error))
            self.say(error)
        return after

    def _settle_pipe(self) -> None:
        try:
            self._pipe.settle()
            if self._pipe.rss() > 4 * ROOM:
                raise Broken(f"the process on the pipe grew to {self._pipe.rss()} bytes")
        except Broken as error:
            self.findings.append(Finding("line", b"", str(error)))
            self.say(f"line: {error}")


def _is_at_rest(figures: Figures) -> bool:
    return not (figures.sessions or figures.runs or figures.answers or figures.streams > A_FEW)


def corpus(suffix: str) -> Iterator[Path]:
    """The inputs that broke something once: `.http` requests, or the `.line`s of a pipe."""
    return (path for path in sorted(CORPUS.iterdir()) if path.suffix == suffix)


def repeat(data: bytes, *, is_line: bool) -> None:
    """Send one input to a fresh server.

    Raises:
        Broken: It still breaks it.
    """
    if is_line:
        with PipeServer() as pipe:
            pipe.strike(pipe.world.fill(data))
            pipe.settle()
    else:
        with HttpServer() as http:
            http.strike(http.world.fill(data))

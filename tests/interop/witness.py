"""What the tools of the served objects tell the tests, in one process and on one loop."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import BaseModel

NOTE = "interop://note"
OTHER = "interop://other"
TOOLS = frozenset(
    ("echo", "count", "chatter", "ask", "confirm", "hang", "stages", "step_out", "fail", "touch")
)
LEVELS = ("debug", "info", "warning", "error")
QUESTION = "What is your name?"
COMPLAINT = "the disk is full"
STAGES = 6


class Answer(BaseModel):
    """What `ask` and `confirm` want to know."""

    name: str


class Witness:
    """Sees what tools do; tests tell their calls apart by keys of their own."""

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self._started: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._cancelled: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    @contextmanager
    def watching(self, key: str) -> Iterator[None]:
        """A tool's body: notes that it began, and that it was cancelled."""
        self.runs[key] += 1
        self._started[key].set()
        try:
            yield
        except asyncio.CancelledError:
            self._cancelled[key].set()
            raise

    async def started(self, key: str) -> None:
        """Wait until the tool with this key runs."""
        await self._started[key].wait()

    async def cancelled(self, key: str) -> None:
        """Wait until the tool with this key was cancelled."""
        await self._cancelled[key].wait()

    def open_gate(self, key: str) -> None:
        """Let `stages` go on behind its middle."""
        self._gates[key].set()

    async def gate(self, key: str) -> None:
        """Where `stages` waits in its middle."""
        await self._gates[key].wait()


async def forever() -> None:
    """What `hang` does."""
    await asyncio.Event().wait()

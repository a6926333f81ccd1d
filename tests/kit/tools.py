"""Tools that do what a test tells them: they wait at a gate, count their runs, ask for a name."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mcp.server.mcpserver import Context
from mcp.server.subscriptions import InMemorySubscriptionBus
from pydantic import BaseModel
from tests.kit.waits import PATIENCE

from headway import Headway, part, report


class Name(BaseModel):
    """What a client is asked for."""

    name: str


class Gate:
    """Where tools wait until the test lets them pass, one by one or all from now on."""

    def __init__(self) -> None:
        self._passes = asyncio.Semaphore(0)
        self._opened = threading.Event()

    def let_pass(self, times: int = 1) -> None:
        """Let so many waits end, of those that go on and those that come."""
        for _ in range(times):
            self._passes.release()

    def open(self) -> None:
        """Let every wait end, from now on."""
        self._opened.set()
        self._passes.release()

    async def wait(self) -> None:
        """Return when the test says so."""
        await self._passes.acquire()
        if self._opened.is_set():
            self._passes.release()  # for the next one

    def wait_in_thread(self) -> None:
        """Return when the gate is open; for tools that block a thread."""
        self._opened.wait(PATIENCE)


class GatedTools:
    """A server whose tools wait at a gate, and what has become of their runs.

    `GatedTools("quick", wait={"restart": True})` serves the methods `quick` and `wait` as tools,
    the second one with this option; `mcp` is the server. A test lets the tools go on with
    `gate.open()` or `gate.let_pass()`, and may add tools of its own to `mcp`.
    """

    def __init__(
        self,
        *tools: str,
        server: Any = None,
        gate: Gate | None = None,
        **with_options: dict[str, Any],
    ) -> None:
        self.bus = InMemorySubscriptionBus()
        """Tells clients of changes, where the server is not a given one."""
        self.mcp: Any = server or Headway("gated", subscriptions=self.bus)
        self.gate = gate or Gate()
        self.runs = 0
        """How often a tool was executed."""
        self.ended = 0
        """How many of these executions are over."""
        self.stopped = 0
        """How many were cancelled."""
        self.most_at_once = 0
        self._lock = threading.Lock()
        for name, options in {**{tool: {} for tool in tools}, **with_options}.items():
            self.mcp.add_tool(getattr(self, name), name=name, **options)

    @property
    def at_once(self) -> int:
        """How many executions go on."""
        return self.runs - self.ended

    # The tools

    async def quick(self) -> str:
        """Answer without a word before."""
        return "at once"

    async def wait(self, steps: float = 4) -> str:
        """Report one step, wait at the gate, and say which run this was."""
        with self._executing() as run:
            report(1, steps, "Hashing setup.py")
            await self.gate.wait()
            return run

    async def give_part(self, steps: float = 4) -> str:
        """Do the same as `wait`, with a part before the wait."""
        with self._executing() as run:
            report(1, steps, "Hashing setup.py")
            part({"file": "setup.py"})
            await self.gate.wait()
            return run

    async def step(self, steps: int) -> str:
        """Wait at the gate before each step, report it, and say which run this was."""
        with self._executing() as run:
            for number in range(1, steps + 1):
                await self.gate.wait()
                report(number, steps)
            return run

    def block(self) -> str:
        """Report something, and block a thread until the gate is open."""
        with self._executing() as run:
            report(1)
            self.gate.wait_in_thread()
            return run

    async def ask(self, ctx: Context[Any, Any]) -> str:
        """Ask the client for a name."""
        with self._executing():
            answer = await ctx.elicit("Who are you?", Name)
            return f"Hello {answer.data.name}" if answer.action == "accept" else answer.action

    async def fail(self) -> str:
        """Wait at the gate, and fail."""
        with self._executing():
            await self.gate.wait()
            raise ValueError("no such table")

    @contextmanager
    def _executing(self) -> Iterator[str]:
        """Count one run; gives its name, `run 1` for the first."""
        with self._lock:  # some are executed in threads
            self.runs += 1
            run = f"run {self.runs}"
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            yield run
        except asyncio.CancelledError:
            self.stopped += 1
            raise
        finally:
            with self._lock:
                self.ended += 1

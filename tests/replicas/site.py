"""A server whose tools do what a test tells them, and count what they did."""

import asyncio
from typing import Any

from mcp.server.mcpserver import Context
from mcp.server.subscriptions import InMemorySubscriptionBus
from pydantic import BaseModel

from headway import Headway, log, report


class Name(BaseModel):
    """What a client is asked for."""

    name: str


class Site:
    """One replica's server; `gate` lets its tools go on, whichever replica they run on."""

    def __init__(self, gate: asyncio.Semaphore | None = None, **options: Any) -> None:
        self.runs = 0
        self.gate = gate or asyncio.Semaphore(0)
        self.ended = asyncio.Event()
        self.bus = InMemorySubscriptionBus()
        self.mcp = Headway("site", subscriptions=self.bus)
        self.mcp.add_tool(self.work, **options)
        self.mcp.add_tool(self.quick)
        self.mcp.add_tool(self.greet)
        self.mcp.add_tool(self.chat)
        self.mcp.resource("x://1", name="one")(lambda: "one")

    async def work(self, steps: int) -> str:
        """Report each step when it is told to."""
        self.runs += 1
        try:
            for step in range(1, steps + 1):
                await self.gate.acquire()
                report(step, steps)
            return f"run {self.runs}"
        finally:
            self.ended.set()

    async def quick(self) -> str:
        return "quick"

    async def greet(self, ctx: Context[Any, Any]) -> str:
        """Ask for a name."""
        answer = await ctx.elicit("Who are you?", Name)
        return f"hello {answer.data.name}" if answer.action == "accept" else answer.action

    async def chat(self) -> str:
        """Say one log message of each of two levels at each step."""
        for _ in range(2):
            await self.gate.acquire()
            log("detail", level="debug")
            log("news", level="error")
        return "said"

    def step(self, count: int = 1) -> None:
        for _ in range(count):
            self.gate.release()


def sites(count: int, **options: Any) -> list[Site]:
    """Replicas whose tools wait at one gate."""
    gate = asyncio.Semaphore(0)
    return [Site(gate, **options) for _ in range(count)]

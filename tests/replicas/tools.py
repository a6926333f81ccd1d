"""Replicas of one server, whose tools wait at one gate, whichever replica executes them."""

from typing import Any

from tests.kit.tools import Gate, GatedTools

from headway import log


class ReplicaTools(GatedTools):
    """One replica's server: the tools `quick`, `ask`, `chat` and `step`, and a resource."""

    def __init__(self, gate: Gate, **options: Any) -> None:
        super().__init__("quick", "ask", "chat", step=options, gate=gate)
        self.mcp.resource("x://1", name="one")(lambda: "one")

    async def chat(self) -> str:
        """Say one log message of each of two levels each time the gate lets it pass."""
        for _ in range(2):
            await self.gate.wait()
            log("detail", level="debug")
            log("news", level="error")
        return "said"


def replica_tools(count: int, **options: Any) -> list[ReplicaTools]:
    """So many replicas; `options` are those of the tool `step`."""
    gate = Gate()
    return [ReplicaTools(gate, **options) for _ in range(count)]

"""The tools of the matrix as an author writes them with the SDK's `MCPServer`."""

from typing import Annotated, Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.resolve import Elicit, Resolve
from tests.interop.witness import (
    COMPLAINT,
    LEVELS,
    NOTE,
    OTHER,
    QUESTION,
    STAGES,
    Answer,
    Witness,
    forever,
)

Ctx = Context[Any, Any]


def build(witness: Witness) -> MCPServer[Any]:
    server: MCPServer[Any] = MCPServer("interop", instructions="Be brief.")
    _add_plain(server)
    _add_talking(server)
    _add_asking(server)
    _add_long(server, witness)
    return server


def _add_plain(server: MCPServer[Any]) -> None:
    @server.tool()
    async def echo(text: str) -> str:
        return text

    @server.tool()
    async def fail() -> str:
        raise ToolError(COMPLAINT)

    @server.resource(NOTE, name="note")
    def note() -> str:
        return "a note"

    @server.resource(OTHER, name="other")
    def other() -> str:
        return "another note"

    @server.prompt()
    def greet(name: str) -> str:
        return f"Greet {name}."


def _add_talking(server: MCPServer[Any]) -> None:
    @server.tool()
    async def count(total: int, ctx: Ctx) -> str:
        for step in range(1, total + 1):
            await ctx.report_progress(step, total, f"step {step} of {total}")
        return f"counted to {total}"

    @server.tool()
    async def chatter(ctx: Ctx) -> str:
        for level in LEVELS:
            await ctx.log(level, f"this is {level}")
        return "said it"

    @server.tool()
    async def touch(uri: str, ctx: Ctx) -> str:
        await ctx.notify_resource_updated(uri)
        return "touched"


def _add_asking(server: MCPServer[Any]) -> None:
    async def ask_name() -> Elicit[Answer]:
        return Elicit(QUESTION, Answer)

    @server.tool()
    async def ask(answer: Annotated[Answer, Resolve(ask_name)]) -> str:
        return f"hello {answer.name}"

    @server.tool()
    async def confirm(ctx: Ctx) -> str:
        result = await ctx.elicit(QUESTION, Answer)
        return f"hello {result.data.name}" if result.action == "accept" else result.action


def _add_long(server: MCPServer[Any], witness: Witness) -> None:
    @server.tool()
    async def hang(key: str) -> str:
        with witness.watching(key):
            await forever()
        return "never"

    @server.tool()
    async def stages(key: str, ctx: Ctx) -> str:
        with witness.watching(key):
            for stage in range(1, STAGES + 1):
                await ctx.report_progress(stage, STAGES, f"stage {stage} of {STAGES}")
                if stage == STAGES // 2:
                    await witness.gate(key)
        return f"all {STAGES} stages"

    @server.tool()
    async def step_out(key: str, ctx: Ctx) -> str:
        await ctx.report_progress(1, 2, "before")
        await ctx.close_sse_stream()
        await witness.gate(key)
        await ctx.report_progress(2, 2, "after")
        return "back again"

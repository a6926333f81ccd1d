"""The tools of the matrix as an author writes them with Headway's own API.

The talking tools are plain functions in threads and need no context parameter; what Headway
leaves to the SDK (elicitation, resources, prompts) is written as for `MCPServer`.
"""

from typing import Annotated, Any

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

from headway import Headway, log, report, track

Ctx = Context[Any, Any]


def build(witness: Witness) -> Headway:
    server = Headway("interop", instructions="Be brief.")
    _add_plain(server)
    _add_talking(server)
    _add_asking(server)
    _add_long(server, witness)
    return server


def _add_plain(server: Headway) -> None:
    @server.tool()
    def echo(text: str) -> str:
        return text

    @server.tool()
    def fail() -> str:
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


def _add_talking(server: Headway) -> None:
    @server.tool(timeout="1m")
    def count(total: int) -> str:
        for _ in track(range(1, total + 1), message=f"step {{item}} of {total}"):
            pass
        return f"counted to {total}"

    @server.tool()
    def chatter() -> str:
        for level in LEVELS:
            log(f"this is {level}", level)
        return "said it"

    @server.tool()
    async def touch(uri: str, ctx: Ctx) -> str:
        await ctx.notify_resource_updated(uri)
        return "touched"


def _add_asking(server: Headway) -> None:
    def ask_name() -> Elicit[Answer]:
        return Elicit(QUESTION, Answer)

    @server.tool()
    def ask(answer: Annotated[Answer, Resolve(ask_name)]) -> str:
        return f"hello {answer.name}"

    @server.tool()
    async def confirm(ctx: Ctx) -> str:
        result = await ctx.elicit(QUESTION, Answer)
        return f"hello {result.data.name}" if result.action == "accept" else result.action


def _add_long(server: Headway, witness: Witness) -> None:
    @server.tool(concurrency=8)
    async def hang(key: str) -> str:
        with witness.watching(key):
            await forever()
        return "never"

    @server.tool()
    async def stages(key: str) -> str:
        with witness.watching(key):
            for stage in range(1, STAGES + 1):
                report(stage, STAGES, f"stage {stage} of {STAGES}")
                if stage == STAGES // 2:
                    await witness.gate(key)
        return f"all {STAGES} stages"

    @server.tool()
    async def step_out(key: str, ctx: Ctx) -> str:
        report(1, 2, "before")
        await ctx.close_sse_stream()
        await witness.gate(key)
        report(2, 2, "after")
        return "back again"

"""The tools of the matrix as an author writes them with FastMCP 4."""

from typing import Any

from fastmcp import Context, FastMCP
from fastmcp.exceptions import ToolError
from mcp.server.elicitation import render_elicitation_schema
from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult
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


def build(witness: Witness) -> FastMCP[Any]:
    server: FastMCP[Any] = FastMCP("interop", instructions="Be brief.")
    _add_plain(server)
    _add_talking(server)
    _add_asking(server)
    _add_long(server, witness)
    return server


def _add_plain(server: FastMCP[Any]) -> None:
    @server.tool
    async def echo(text: str) -> str:
        return text

    @server.tool
    async def fail() -> str:
        raise ToolError(COMPLAINT)

    @server.resource(NOTE, name="note")
    def note() -> str:
        return "a note"

    @server.resource(OTHER, name="other")
    def other() -> str:
        return "another note"

    @server.prompt
    def greet(name: str) -> str:
        return f"Greet {name}."


def _add_talking(server: FastMCP[Any]) -> None:
    @server.tool
    async def count(total: int, ctx: Context) -> str:
        for step in range(1, total + 1):
            await ctx.report_progress(step, total, f"step {step} of {total}")
        return f"counted to {total}"

    @server.tool
    async def chatter(ctx: Context) -> str:
        for level in LEVELS:
            await ctx.log(f"this is {level}", level=level)
        return "said it"

    @server.tool
    async def touch(uri: str, ctx: Context) -> str:
        await ctx.session.send_resource_updated(uri)
        return "touched"


def _add_asking(server: FastMCP[Any]) -> None:
    @server.tool
    async def ask(ctx: Context) -> Any:
        """The guard pattern: FastMCP has no way that fits both eras."""
        request_context = ctx.request_context
        assert request_context is not None
        if request_context.protocol_version != "2026-07-28":
            result = await ctx.elicit(QUESTION, Answer)
            return f"hello {result.data.name}" if result.action == "accept" else result.action
        answer = (ctx.input_responses or {}).get("name")
        if isinstance(answer, ElicitResult):
            return f"hello {answer.content['name']}" if answer.content else answer.action
        schema = render_elicitation_schema(Answer)
        params = ElicitRequestFormParams(message=QUESTION, requested_schema=schema)
        return InputRequiredResult(input_requests={"name": ElicitRequest(params=params)})

    @server.tool
    async def confirm(ctx: Context) -> str:
        result = await ctx.elicit(QUESTION, Answer)
        return f"hello {result.data.name}" if result.action == "accept" else result.action


def _add_long(server: FastMCP[Any], witness: Witness) -> None:
    @server.tool
    async def hang(key: str) -> str:
        with witness.watching(key):
            await forever()
        return "never"

    @server.tool
    async def stages(key: str, ctx: Context) -> str:
        with witness.watching(key):
            for stage in range(1, STAGES + 1):
                await ctx.report_progress(stage, STAGES, f"stage {stage} of {STAGES}")
                if stage == STAGES // 2:
                    await witness.gate(key)
        return f"all {STAGES} stages"

    @server.tool
    async def step_out(key: str, ctx: Context) -> str:
        await ctx.report_progress(1, 2, "before")
        await ctx.close_sse_stream()
        await witness.gate(key)
        await ctx.report_progress(2, 2, "after")
        return "back again"

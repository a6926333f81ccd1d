"""The tools of the matrix as an author writes them with the SDK's lowlevel `Server`."""

from collections.abc import Awaitable, Callable
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.elicitation import render_elicitation_schema
from mcp.server.lowlevel import Server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourceUpdated
from mcp.shared.exceptions import MCPError
from tests.interop.witness import (
    COMPLAINT,
    LEVELS,
    NOTE,
    OTHER,
    QUESTION,
    STAGES,
    TOOLS,
    Answer,
    Witness,
    forever,
)

Ctx = ServerRequestContext[Any, Any]
Params = types.CallToolRequestParams
Handler = Callable[[Ctx, Params], Awaitable[str | types.InputRequiredResult]]

ARGUMENTS = {
    "echo": {"text": "string"},
    "count": {"total": "integer"},
    "hang": {"key": "string"},
    "stages": {"key": "string"},
    "step_out": {"key": "string"},
    "touch": {"uri": "string"},
}


def build(witness: Witness) -> Server[Any]:
    bus = InMemorySubscriptionBus()
    handlers: dict[str, Handler] = {
        "echo": _echo,
        "fail": _fail,
        "count": _count,
        "chatter": _chatter,
        "ask": _ask,
        "confirm": _confirm,
        **_long(witness),
        **_changing(bus),
    }

    async def call_tool(
        ctx: Ctx, params: Params
    ) -> types.CallToolResult | types.InputRequiredResult:
        if params.name not in handlers:
            raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name}")
        said = await handlers[params.name](ctx, params)
        if isinstance(said, types.InputRequiredResult):
            return said
        return types.CallToolResult(content=[types.TextContent(type="text", text=said)])

    return Server(
        "interop",
        instructions="Be brief.",
        on_list_tools=_list_tools,
        on_call_tool=call_tool,
        on_list_resources=_list_resources,
        on_read_resource=_read_resource,
        on_list_prompts=_list_prompts,
        on_get_prompt=_get_prompt,
        on_subscriptions_listen=ListenHandler(bus),
    )


async def _list_tools(_ctx: Ctx, _params: Any) -> types.ListToolsResult:
    return types.ListToolsResult(tools=[_tool(name) for name in sorted(TOOLS)])


def _tool(name: str) -> types.Tool:
    properties = {key: {"type": kind} for key, kind in ARGUMENTS.get(name, {}).items()}
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return types.Tool(name=name, input_schema=schema)


async def _echo(_ctx: Ctx, params: Params) -> str:
    return str((params.arguments or {})["text"])


async def _fail(_ctx: Ctx, _params: Params) -> str:
    raise MCPError(types.INTERNAL_ERROR, COMPLAINT)


async def _count(ctx: Ctx, params: Params) -> str:
    total = int((params.arguments or {})["total"])
    for step in range(1, total + 1):
        await ctx.session.report_progress(step, total, f"step {step} of {total}")
    return f"counted to {total}"


async def _chatter(ctx: Ctx, _params: Params) -> str:
    for level in LEVELS:
        await ctx.session.send_log_message(
            level, f"this is {level}", related_request_id=ctx.request_id
        )
    return "said it"


async def _ask(ctx: Ctx, params: Params) -> str | types.InputRequiredResult:
    if ctx.session.can_send_request:
        return await _confirm(ctx, params)
    answer = (params.input_responses or {}).get("name")
    if isinstance(answer, types.ElicitResult):
        return f"hello {answer.content['name']}" if answer.content else answer.action
    question = types.ElicitRequestFormParams(
        message=QUESTION, requested_schema=render_elicitation_schema(Answer)
    )
    return types.InputRequiredResult(input_requests={"name": types.ElicitRequest(params=question)})


async def _confirm(ctx: Ctx, _params: Params) -> str:
    answer = await ctx.session.elicit_form(
        QUESTION, render_elicitation_schema(Answer), related_request_id=ctx.request_id
    )
    return f"hello {answer.content['name']}" if answer.content else answer.action


def _long(witness: Witness) -> dict[str, Handler]:
    async def hang(_ctx: Ctx, params: Params) -> str:
        with witness.watching((params.arguments or {})["key"]):
            await forever()
        return "never"

    async def stages(ctx: Ctx, params: Params) -> str:
        key = (params.arguments or {})["key"]
        with witness.watching(key):
            for stage in range(1, STAGES + 1):
                message = f"stage {stage} of {STAGES}"
                await ctx.session.report_progress(stage, STAGES, message)
                if stage == STAGES // 2:
                    await witness.gate(key)
        return f"all {STAGES} stages"

    async def step_out(ctx: Ctx, params: Params) -> str:
        await ctx.session.report_progress(1, 2, "before")
        if ctx.close_sse_stream is not None:
            await ctx.close_sse_stream()
        await witness.gate((params.arguments or {})["key"])
        await ctx.session.report_progress(2, 2, "after")
        return "back again"

    return {"hang": hang, "stages": stages, "step_out": step_out}


def _changing(bus: InMemorySubscriptionBus) -> dict[str, Handler]:
    async def touch(ctx: Ctx, params: Params) -> str:
        uri = (params.arguments or {})["uri"]
        # The bus feeds `subscriptions/listen`; a 2025 client is told in its own session.
        await bus.publish(ResourceUpdated(uri))
        await ctx.session.send_resource_updated(uri)
        return "touched"

    return {"touch": touch}


NOTES = {NOTE: "a note", OTHER: "another note"}


async def _list_resources(_ctx: Ctx, _params: Any) -> types.ListResourcesResult:
    return types.ListResourcesResult(
        resources=[types.Resource(uri=uri, name=uri.rpartition("/")[2]) for uri in NOTES]
    )


async def _read_resource(
    _ctx: Ctx, params: types.ReadResourceRequestParams
) -> types.ReadResourceResult:
    text = types.TextResourceContents(uri=params.uri, text=NOTES[str(params.uri)])
    return types.ReadResourceResult(contents=[text])


async def _list_prompts(_ctx: Ctx, _params: Any) -> types.ListPromptsResult:
    argument = types.PromptArgument(name="name", required=True)
    return types.ListPromptsResult(prompts=[types.Prompt(name="greet", arguments=[argument])])


async def _get_prompt(_ctx: Ctx, params: types.GetPromptRequestParams) -> types.GetPromptResult:
    text = f"Greet {(params.arguments or {})['name']}."
    message = types.PromptMessage(role="user", content=types.TextContent(type="text", text=text))
    return types.GetPromptResult(messages=[message])

"""Tools that become tasks, for the scenarios of the tasks extension."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import anyio
from asking import outcome
from mcp.server.mcpserver import Context, Elicit, Resolve
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel

Ctx = Context[Any, Any]


class Consent(BaseModel):
    confirm: bool


class Name(BaseModel):
    name: str


def for_name() -> Elicit[Name]:
    return Elicit("What is your name?", Name)


def greet(name: str) -> str:
    """Greets at once."""
    return f"Hello, {name}!"


async def slow_compute(seconds: float = 0, label: str = "it") -> str:
    """Takes as many seconds as it is told."""
    await anyio.sleep(seconds)
    return f"Computed {label} in {seconds:g} s"


async def failing_job() -> str:
    """Fails after a moment."""
    await anyio.sleep(0.5)
    raise ToolError("The job has failed")


async def protocol_error_job() -> str:
    """Ends with a protocol error after a moment."""
    await anyio.sleep(0.5)
    raise MCPError(-32000, "The job cannot be done")


async def confirm_delete(ctx: Ctx, filename: str = "file.txt") -> str:
    """Asks before it deletes."""
    return f"{filename}: {outcome(await ctx.elicit(f'Delete {filename}?', Consent))}"


async def multi_input(ctx: Ctx) -> str:
    """Asks two questions at once."""
    first, second = await asyncio.gather(
        ctx.elicit("What is your name?", Name), ctx.elicit("Are you sure?", Consent)
    )
    return f"{outcome(first)}; {outcome(second)}"


async def tool_with_task(name: Annotated[Name, Resolve(for_name)]) -> str:
    """Asks for a name, and becomes a task when it has it."""
    await anyio.sleep(0.5)
    return f"Hello, {name.name}!"


AT_ONCE: dict[str, Any] = {"hand_over": "at once"}

JOBS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "greet": (greet, {"hand_over": "never"}),
    "slow_compute": (slow_compute, AT_ONCE),
    "protocol_error_job": (protocol_error_job, AT_ONCE),
    "confirm_delete": (confirm_delete, AT_ONCE),
    "multi_input": (multi_input, AT_ONCE),
    "failing_job": (failing_job, {**AT_ONCE, "needs_task": True}),
    "test_tool_with_task": (tool_with_task, {**AT_ONCE, "needs_task": True}),
}
"""Each job with the options that it is registered with."""

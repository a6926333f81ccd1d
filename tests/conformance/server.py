"""A server with everything that the official conformance suite looks for.

    headway run tests/conformance/server.py:server

It is written as any author would write one. The names of its tools, prompts and resources are the
suite's, and so is what they say; `docs/conformance.md` has how the suite is run against it.
"""

import base64
import json
from collections.abc import Callable
from typing import Annotated, Any

import anyio
import asking
import rounds
from mcp.server.mcpserver import Audio, Context, Image, UserMessage
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.resources import BinaryResource, TextResource
from mcp.server.mcpserver.tools import Tool
from mcp_types import (
    Completion,
    ContentBlock,
    EmbeddedResource,
    TextContent,
    TextResourceContents,
)
from pydantic import Field

import jobs
from headway import Headway, log, report

Ctx = Context[Any, Any]

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
SILENCE = base64.b64decode("UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQIAAAAAAA==")
IMAGE = Image(data=PIXEL)


def text(words: str) -> TextContent:
    return TextContent(text=words)


def embedded(uri: str, content: str, mime_type: str = "text/plain") -> EmbeddedResource:
    return EmbeddedResource(
        resource=TextResourceContents(uri=uri, text=content, mime_type=mime_type)
    )


SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "address",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "mail": {"type": "string"},
        "phone": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["mail"]}, {"required": ["phone"]}]}],
    "if": {"required": ["phone"]},
    "then": {"properties": {"phone": {"minLength": 3}}},
    "else": {"required": ["mail"]},
    "additionalProperties": False,
}
"""A schema with the keywords that a server must hand through as they are."""


def json_schema_2020_12_tool() -> str:
    """Takes arguments whose schema uses much of JSON Schema 2020-12."""
    return "accepted"


server = Headway(
    "conformance",
    version="1.0.0",
    tools=[
        Tool.from_function(json_schema_2020_12_tool).model_copy(update={"parameters": SCHEMA}),
    ],
)


# Tools that give their content and do nothing else

CONTENT: dict[str, list[ContentBlock]] = {
    "test_simple_text": [text("This is a simple text response for testing.")],
    "test_image_content": [IMAGE.to_image_content()],
    "test_audio_content": [Audio(data=SILENCE).to_audio_content()],
    "test_embedded_resource": [
        embedded("test://embedded-resource", "This is an embedded resource content.")
    ],
    "test_multiple_content_types": [
        text("Multiple content types test:"),
        IMAGE.to_image_content(),
        embedded(
            "test://mixed-content-resource",
            json.dumps({"test": "data", "value": 123}),
            "application/json",
        ),
    ],
}


def giving(blocks: list[ContentBlock]) -> Callable[[], list[ContentBlock]]:
    return lambda: blocks


for name, blocks in CONTENT.items():
    kinds = " and ".join(block.type for block in blocks)
    server.add_tool(
        giving(blocks), name, description=f"Gives {kinds} content.", structured_output=False
    )


# Tools that say something meanwhile, or fail


@server.tool("test_error_handling")
def error_handling() -> str:
    """Fails."""
    raise ToolError("This tool intentionally returns an error for testing")


@server.tool("test_tool_with_logging")
async def tool_with_logging() -> str:
    """Logs at its start, in its middle and at its end."""
    for step in ("execution started", "processing data", "execution completed"):
        log(f"Tool {step}")
        await anyio.sleep(0.05)
    return "Logged three times"


@server.tool("test_logging_tool")
def logging_tool() -> str:
    """Logs once, for clients that asked for logs."""
    log("This is for those who asked for it")
    return "Logged once"


@server.tool("test_tool_with_progress", rate=0)
async def tool_with_progress() -> str:
    """Reports progress at its start, in its middle and at its end."""
    for done in (0, 50, 100):
        report(done, 100, f"Completed step {done} of 100")
        await anyio.sleep(0.05)
    return "Reported three times"


@server.tool("test_reconnection")
async def reconnection(ctx: Ctx) -> str:
    """Closes its stream and goes on, so that its client has to come back for the result."""
    await ctx.close_sse_stream()
    await anyio.sleep(0.1)
    return "Reconnection test completed"


@server.tool("test_trigger_tool_change")
async def trigger_tool_change(ctx: Ctx) -> str:
    """Announces that the tools have changed."""
    await ctx.notify_tools_changed()
    return "Announced"


@server.tool("test_trigger_prompt_change")
async def trigger_prompt_change(ctx: Ctx) -> str:
    """Announces that the prompts have changed."""
    await ctx.notify_prompts_changed()
    return "Announced"


@server.tool("test_x_mcp_header")
def x_mcp_header(
    region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})] = "",
) -> str:
    """Takes an argument that clients repeat in a header."""
    return f"Region: {region}"


# Tools that ask, and jobs

for name, tool in {**asking.TOOLS, **rounds.TOOLS}.items():
    server.add_tool(tool, name, structured_output=False)

for name, (job, options) in jobs.JOBS.items():
    server.add_tool(job, name, **options)


# Prompts, resources, completions

for name, prompt in rounds.PROMPTS.items():
    server.prompt(name)(prompt)


@server.prompt("test_simple_prompt")
def simple_prompt() -> str:
    """A prompt without arguments."""
    return "This is a simple prompt for testing."


@server.prompt("test_prompt_with_arguments")
def prompt_with_arguments(arg1: str, arg2: str) -> str:
    """A prompt with two arguments."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@server.prompt("test_prompt_with_embedded_resource")
def prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:
    """A prompt with a resource in it."""
    resource = embedded(resourceUri, "Embedded resource content for testing.")
    return [UserMessage(resource), UserMessage("Please process the embedded resource above.")]


@server.prompt("test_prompt_with_image")
def prompt_with_image() -> list[UserMessage]:
    """A prompt with an image in it."""
    return [UserMessage(IMAGE), UserMessage("Please analyze the image above.")]


for name, content in {
    "static-text": "This is the content of the static text resource.",
    "watched-resource": "This can be subscribed to.",
}.items():
    server.add_resource(TextResource(uri=f"test://{name}", name=name, text=content))

server.add_resource(
    BinaryResource(
        uri="test://static-binary", name="static-binary", data=PIXEL, mime_type="image/png"
    )
)


@server.resource("test://template/{id}/data", mime_type="application/json")
def template_data(id: str) -> dict[str, Any]:
    """Data of any id."""
    return {"id": id, "templateTest": True, "data": f"Data for ID: {id}"}


@server.completion()
async def completion(_ref: object, _argument: object, _context: object) -> Completion:
    return Completion(values=["testValue1", "testValue2"])

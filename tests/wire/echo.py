"""A server whose tools give back what they are called with."""

from typing import Annotated

from mcp.shared.exceptions import MCPError
from pydantic import Field

from headway import Headway


def echo_server() -> Headway:
    """`echo`, `routed` (whose arguments may come in headers too), and `refuse`."""
    mcp = Headway("echo")

    @mcp.tool()
    async def echo(text: str = "hi") -> str:
        return text

    @mcp.tool()
    async def routed(
        text: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Text"})] = "hi",
        count: Annotated[int, Field(json_schema_extra={"x-mcp-header": "Count"})] = 1,
    ) -> str:
        return text * count

    @mcp.tool()
    async def refuse() -> str:
        raise MCPError(-32602, "The moon is not full")

    return mcp

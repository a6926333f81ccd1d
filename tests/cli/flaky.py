"""A server whose tools fail until a file is there, and go on where they were."""

from pathlib import Path

from headway import Headway
from headway.api import ToolError, report

mcp = Headway("flaky")


@mcp.tool(restart=True)
def fetch(place: str) -> str:
    """Fail where the file is missing."""
    report(1, 2, "half")
    if not Path(place).exists():
        raise ToolError("the shop is closed")
    return f"fetched {place}"


@mcp.tool()
async def forgotten() -> str:
    """Fail, and leave nothing behind to do it again with."""
    raise ToolError("no luck")


@mcp.tool(restart=True)
async def hang(place: str) -> str:
    """Do not end before the file is there."""
    from tests.kit.waits import until

    report(1, 2, "hanging")
    await until(Path(place).exists)
    return "hung"

"""Exception groups of a tool, as the one exception that the SDK understands.

A task group raises a group even of a single exception. The SDK takes any group for a crash. So a
text that an author raised for the model to read would be lost, and so would a protocol error.
"""

from typing import cast

from mcp.server.mcpserver.exceptions import (
    ResourceError,
    ToolError,
    UnexpectedResourceError,
    UnexpectedToolError,
)
from mcp.shared.exceptions import MCPError

from headway.engine.tool_failures import leaf_errors

_CRASHES = (UnexpectedToolError, UnexpectedResourceError)


def as_one_error(tool: str, error: UnexpectedToolError) -> Exception:
    """Return the exception to raise for a tool that raised a group.

    Texts that were raised for the model are joined. If there are crashes beside them, these are
    counted and the result is a crash. If all are protocol errors, it is the first one. A group of
    nothing but crashes, and an error that is no group, is returned as it is.
    """
    group = error.__cause__
    if not isinstance(group, ExceptionGroup):
        return error
    members = leaf_errors(cast("ExceptionGroup[Exception]", group))
    if all(isinstance(member, MCPError) for member in members):
        return cast("MCPError", members[0])
    texts = list(dict.fromkeys(filter(None, map(_deliberate_text, members))))
    if not texts:
        return error
    crashes = sum(_deliberate_text(member) is None for member in members)
    if crashes:
        texts.append(f"and {crashes} unexpected error{'s' if crashes > 1 else ''}")
    kind = UnexpectedToolError if crashes else ToolError
    return kind(f"Error executing tool {tool}: {'; '.join(texts)}")


def _deliberate_text(error: BaseException) -> str | None:
    """Return the text that an author raised for a client to read; None for a crash."""
    if isinstance(error, MCPError):
        return error.error.message
    if isinstance(error, ToolError | ResourceError) and not isinstance(error, _CRASHES):
        return str(error)
    return None

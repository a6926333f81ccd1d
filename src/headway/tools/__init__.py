"""Ready-made long-running tools, written only with what every author has.

`build` puts them into the server that `headway serve` runs; read `files` and `demo` to see
how a tool is written.
"""

from collections.abc import Sequence
from inspect import getdoc
from pathlib import Path

from mcp_types import ToolAnnotations

from headway import Headway
from headway.tools.demo import long_task
from headway.tools.files import FileTools, Limits
from headway.tools.roots import Roots

__all__ = ["Limits", "build"]

INSTRUCTIONS = """\
Long-running tools that report progress while they work. process_files reads files below \
{roots}; a relative directory starts at the first of these. long_task only takes time, to \
try out a client."""


def build(roots: Sequence[Path], data: Path, *, limits: Limits | None = None) -> Headway:
    """The server with all the tools, reading below `roots` and keeping its own files in `data`.

    Raises:
        SetupError: A root is missing or not a directory.
    """
    allowed = Roots(roots, private=data)
    files = FileTools(allowed, data, limits)
    mcp = Headway("headway-tools", instructions=INSTRUCTIONS.format(roots=allowed))
    mcp.tool(
        title="Process files",
        description=getdoc(files.process_files),
        timeout="6h",
        concurrency=4,
        # It writes nothing but the server's own index, and doing it again changes nothing.
        annotations=ToolAnnotations(
            read_only_hint=False,
            destructive_hint=False,
            idempotent_hint=True,
            open_world_hint=False,
        ),
    )(files.process_files)
    mcp.tool(
        title="Long task",
        timeout="30m",
        annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False),
    )(long_task)
    return mcp

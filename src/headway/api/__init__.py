"""The library for authors of tools.

All but `Headway` are plain calls without a context parameter: they find the run that the
current task or thread works for, and do nothing where there is none, so that a tool's
functions can be called and tested on their own. None of them ever waits except `stream_command`
and `in_process`, which are awaited.

| module | contents |
|---|---|
| `progress` | `report`, `track`, `stage`: how far a tool is |
| `output` | `part`, `log`: partial results and log messages |
| `checkpointing` | `checkpoint`, `last_checkpoint`, `attempt`: going on after a crash |
| `cancellation_hooks` | `shield`, `on_cancel`: what a cancel has to wait for, and what it calls |
| `subprocesses` | `stream_command`: other programs; `lines`, `scan`: their output |
| `pool` | `in_process`: work in another process (`child`: the code that runs there) |
| `capture` | `capture_logging`, `capture_tqdm`: output of libraries |
| `headway_server` | `Headway`: the server that tools are registered on |
"""

from mcp.server.mcpserver.exceptions import ToolError

from headway.api.cancellation_hooks import on_cancel, shield
from headway.api.capture import capture_logging, capture_tqdm
from headway.api.checkpointing import attempt, checkpoint, earlier_parts, last_checkpoint
from headway.api.headway_server import Headway
from headway.api.output import log, part
from headway.api.pool.pool import ProcessFailed, in_process
from headway.api.progress import report, stage, track
from headway.api.subprocesses.command import CommandFailed, CommandOutput, stream_command

__all__ = [
    "CommandFailed",
    "CommandOutput",
    "Headway",
    "ProcessFailed",
    "ToolError",
    "attempt",
    "capture_logging",
    "capture_tqdm",
    "checkpoint",
    "earlier_parts",
    "in_process",
    "last_checkpoint",
    "log",
    "on_cancel",
    "part",
    "report",
    "shield",
    "stage",
    "stream_command",
    "track",
]

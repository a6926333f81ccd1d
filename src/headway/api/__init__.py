"""What authors of tools hold.

All but `Headway` are plain calls without a context parameter: they find the run that the
current task or thread works for, and do nothing where there is none, so that a tool's
functions can be called and tested on their own. None of them ever waits but `stream_command`
and `in_process`, which are awaited.

| module | what is in it |
|---|---|
| `progress` | `report`, `track`, `stage`: how far a tool is |
| `output` | `part`, `log`: what it has to say meanwhile |
| `checkpoints` | `checkpoint`, `last_checkpoint`, `attempt`: going on after a crash |
| `stopping` | `shield`, `on_cancel`: what a cancel has to wait for, and who is told |
| `command` | `stream_command`: other programs (`lines`, `scan`: what they say) |
| `process` | `in_process`: work that computes, in another process (`worker`: what runs there) |
| `libraries` | `capture_logging`, `capture_tqdm`: what libraries say by themselves |
| `author` | `Headway`: the server that tools are registered on |
"""

from headway.api.cancellation_hooks import on_cancel, shield
from headway.api.capture import capture_logging, capture_tqdm
from headway.api.checkpoint import attempt, checkpoint, earlier_parts, last_checkpoint
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

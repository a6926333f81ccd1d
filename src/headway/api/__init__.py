"""What authors of tools hold.

All but `Headway` are plain calls without a context parameter: they find the run that the
current task or thread works for, and do nothing where there is none, so that a tool's
functions can be called and tested on their own. None of them ever waits.

| module | what is in it |
|---|---|
| `progress` | `report`, `track`, `stage`: how far a tool is |
| `output` | `part`, `log`: what it has to say meanwhile |
| `command` | `stream_command`: other programs (`scan`: the progress in their lines) |
| `author` | `Headway`: the server that tools are registered on |
"""

from headway.api.author import Headway
from headway.api.command import CommandFailed, CommandOutput, stream_command
from headway.api.output import log, part
from headway.api.progress import report, stage, track

__all__ = [
    "CommandFailed",
    "CommandOutput",
    "Headway",
    "log",
    "part",
    "report",
    "stage",
    "stream_command",
    "track",
]

"""The command line: arguments in, exit code out.

This package must not do anything that a user of the library could not do. Every command is a file.
Modules that a command needs are imported when it runs, so that `headway run` starts without loading
the client of `headway call`.
"""

import sys
from collections.abc import Sequence
from typing import NoReturn

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one command, of `argv` or the process's own arguments, and exit with its code."""
    from headway.cli.app import app
    from headway.cli.display.printable import write_anything
    from headway.cli.exit_codes import run_command
    from headway.cli.server.process_end import leave_process

    for stream in (sys.stdout, sys.stderr):
        write_anything(stream)
    leave_process(run_command(lambda: app(argv, prog_name="headway", standalone_mode=False)))

"""The command line's own fixtures, for what is asked for there."""

from tests.cli.conftest import command, programs

__all__ = ["command", "programs"]

"""A codec for Docket without pickle: nothing is passed, so nothing is ever unpickled.

Docket pickles the arguments, results and errors of its tasks, and the values of its strikes, with
`cloudpickle`. A pickle is a program: whoever can write to the Redis could have it executed here.
Only the key of our tasks means something; all else is in the journal, as JSON. So this module sets
the name `cloudpickle` in Docket's modules to `RefusingCodec`, which reads nothing.
"""

import sys
from types import ModuleType
from typing import Any

from headway.errors import SetupError
from headway.log_lines import quiet_logger

logger = quiet_logger(__name__)

MODULES = ("docket.execution", "docket.strikelist", "docket.worker")
"""The modules in which Docket uses `cloudpickle`. A test checks them against its source."""

EMPTY = b"[]"


class NoArguments(tuple[()]):
    """No arguments: by position as well as by name."""

    is_strange = False

    def keys(self) -> tuple[()]:
        """Return no names."""
        return ()

    def items(self) -> tuple[()]:
        """Return no names with values."""
        return ()


class UnexpectedArguments(NoArguments):
    """No arguments, in place of some that another program had put there."""

    is_strange = True


class RefusingCodec:
    """The two functions of `cloudpickle` that Docket calls."""

    @staticmethod
    def dumps(value: Any) -> bytes:
        """Return an empty JSON list. Errors of tasks are dropped: they are logged already.

        Raises:
            TypeError: There is something to pass.
        """
        if value and not isinstance(value, BaseException):
            raise TypeError("only keys go through a queue")
        return EMPTY

    @staticmethod
    def loads(data: bytes) -> NoArguments:
        """Return no arguments, whatever `data` is; it is never decoded."""
        return NoArguments() if data == EMPTY else UnexpectedArguments()


def keep_pickles_out() -> None:
    """Have Docket read and write no pickles in this process.

    Raises:
        SetupError: Docket is not as this version of Headway knows it.
    """
    for name in MODULES:
        module: ModuleType | None = sys.modules.get(name)
        if module is None or not hasattr(module, "cloudpickle"):
            raise SetupError(
                f"this version of Docket has no {name}.cloudpickle; install the one that "
                "headway[workers] asks for"
            )
        setattr(module, "cloudpickle", RefusingCodec)  # noqa: B010 - the name is not in its types

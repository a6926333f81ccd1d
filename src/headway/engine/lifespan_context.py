"""What a server's lifespan sets in its context, for the tasks in which its requests are handled.

Requests come in tasks of whoever serves the app: they know nothing of the lifespan's task.
"""

from collections.abc import Sequence
from contextvars import Context, ContextVar, copy_context
from typing import Any, Final, NamedTuple

_UNSET: Final = object()


class SetVariable(NamedTuple):
    """A context variable that a server's lifespan has set."""

    variable: ContextVar[Any]
    value: object
    before: object
    """Its value before the lifespan was entered."""


def variables_set_since(before: Context) -> list[SetVariable]:
    """The context variables that have another value than in `before`."""
    return [
        SetVariable(variable, value, before.get(variable, _UNSET))
        for variable, value in copy_context().items()
        if before.get(variable, _UNSET) is not value
    ]


def inherit_variables(variables: Sequence[SetVariable]) -> None:
    """Set in this task what a lifespan has set in another one; what it set itself stays."""
    for variable, value, before in variables:
        if variable.get(_UNSET) is before:
            variable.set(value)

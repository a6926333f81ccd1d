"""Context variables that a server's lifespan sets, carried to the tasks that handle its requests.

The HTTP server makes a task for each request, and these do not inherit the lifespan's context.
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
    """Return the context variables that have another value now than in `before`."""
    return [
        SetVariable(variable, value, before.get(variable, _UNSET))
        for variable, value in copy_context().items()
        if before.get(variable, _UNSET) is not value
    ]


def inherit_variables(variables: Sequence[SetVariable]) -> None:
    """Set these variables in the current task; one that the task has set itself keeps its value."""
    for variable, value, before in variables:
        if variable.get(_UNSET) is before:
            variable.set(value)

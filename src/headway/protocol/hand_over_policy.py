"""Hand-over as a table: the traits of a client, and what it gets when the window is over."""

from collections.abc import Callable
from enum import StrEnum
from math import inf
from typing import Final, NamedTuple

from headway.client_profiles import Profile

DEFAULT_WINDOW: Final = 45.0
"""Seconds until a hand-over if neither author nor operator set a window. Most clients wait 60 s for
a silent answer."""

WINDOW_SHARE: Final = 0.75
"""The share of a client's known deadline after which it gets a handle; its line may be slow."""


class HandOverForm(StrEnum):
    """The fate of a call that outlasts its window."""

    STAY = "stay"
    """Nothing ends; heartbeats keep the call alive."""
    TASK = "task"
    """A task: the client looks after it with `tasks/get`, and can be asked there."""
    RECONNECT = "reconnect"
    """The stream ends with `retry`; the client comes back to it (SEP-1699)."""
    HANDLE = "handle"
    """An ordinary result, with what there is so far and a run id for `continue_run`."""


class ClientTraits(NamedTuple):
    """The traits of a client that its request shows."""

    profile: Profile
    knows_tasks: bool = False
    """It declares the tasks extension."""
    has_token: bool = False
    can_reconnect: bool = False
    """Its stream began with an event id to come back with."""


class Windows(NamedTuple):
    """The seconds after which a call is handed over; None where they are not set."""

    tool: float | None
    """The author's, for the tool."""
    server: float | None
    """The operator's, for all tools."""

    @property
    def effective(self) -> float | None:
        """The window that counts: the author's, who knows the tool, or the operator's."""
        return self.server if self.tool is None else self.tool


_ROWS: Final[tuple[tuple[HandOverForm, Callable[[ClientTraits], bool]], ...]] = (
    (HandOverForm.TASK, lambda shown: shown.knows_tasks),
    (HandOverForm.STAY, lambda shown: shown.has_token and shown.profile.resets is not False),
    (HandOverForm.RECONNECT, lambda shown: shown.can_reconnect and shown.profile.resumes is True),
    (HandOverForm.HANDLE, lambda _: True),
)
"""The first row that fits counts."""


def form_for(shown: ClientTraits, windows: Windows) -> tuple[HandOverForm, float]:
    """Return the form that a call gets, and after how many seconds: 0 at once, inf never."""
    window = DEFAULT_WINDOW if windows.effective is None else windows.effective
    way = next(way for way, fits in _ROWS if fits(shown))
    # A plain handle must be asked for: an existing server must not grow a tool by surprise.
    is_unwanted = way is HandOverForm.HANDLE and windows.effective is None
    if way is HandOverForm.STAY or window == inf or is_unwanted:
        return HandOverForm.STAY, inf
    if way is not HandOverForm.RECONNECT and shown.profile.deadline is not None:
        window = min(window, shown.profile.deadline * WINDOW_SHARE)
    return way, window

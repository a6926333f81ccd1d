"""The callbacks of a run, and the facts by which its request is handed over.

A request does not have to wait until its run ends: its client may be given a handle instead (a
hand-over). The transport decides that, and stores here what it decided.
"""

from collections.abc import Callable
from math import inf


class RunHooks:
    """Callbacks of the engine and the transport for one run; on the event loop only."""

    __slots__ = (
        "answered", "closes_stream", "give_up", "has_handle", "on_end", "on_function_begins",
        "on_handed_over", "on_question", "window",
    )  # fmt: skip

    def __init__(self) -> None:
        self.on_end: list[Callable[[], None]] = []
        """Called once the run has its end, in order."""
        self.give_up: Callable[[], None] = _do_nothing
        """Called when the run was stopped and does not come to an end."""
        self.on_question: Callable[[], None] = _do_nothing
        """Called when the run has put a question to its client."""
        self.on_function_begins: Callable[[], None] = _do_nothing
        """Called when the author's function begins."""
        self.on_handed_over: Callable[[], None] = _do_nothing
        """Called when the client was given a handle."""
        self.answered: Callable[[], str] = str
        """Returns how its request is answered, for the log: a key of `end_line.ANSWERED`, or ''."""
        self.has_handle = False
        """Whether a handle or a key names the run, so that it can go on without its session."""
        self.closes_stream = False
        """Whether the handler has asked for an end of its request's stream, which goes on."""
        self.window = inf
        """Seconds that its client may be kept waiting."""

    def drop_offers(self) -> None:
        """Stop waiting for a question or for the function: the hand-over has begun."""
        self.on_question = self.on_function_begins = _do_nothing

    def clear(self) -> None:
        """Let go of all callbacks, which may hold the run."""
        self.drop_offers()
        self.on_end.clear()
        self.on_handed_over = self.give_up = _do_nothing
        self.answered = str  # it holds the answer


def _do_nothing() -> None:
    pass

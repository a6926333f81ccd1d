"""Answers to calls that end in their first step: no stream is opened, and no timer is started."""

from functools import partial
from typing import Final

from headway.engine import Run
from headway.events import Event
from headway.journal import Cursor
from headway.protocol.render import Reader, render_event
from headway.transport.http.accept import Form
from headway.transport.http.json_or_sse import AS_JSON

_AS_JSON: Final = partial(str, "json")
_AS_STREAM: Final = partial(str, "stream")

MOST_ENTRIES: Final = 32
"""Entries of a run that are looked through for one that its reader is to have."""


def begin_run(run: Run, cursor: Cursor, reader: Reader, form: Form) -> Event | None:
    """Begin a run, and return its end if it has come to it and that is all there is to answer.

    The cursor, before the run's first entry, is opened by the caller: a full journal may drop what
    has ended. It does not move. Returns None where the answer has to be read with it: the run goes
    on, its end is not stored yet, it has said something that its reader is to have, or the answer
    is to be a stream.
    """
    run.hooks.answered = _AS_STREAM if form is Form.STREAM else _AS_JSON
    run.execution.begin_now()
    entries = cursor.peek_ended(MOST_ENTRIES)
    if form is Form.STREAM or not entries or type(entries[-1].event) not in AS_JSON:
        return None
    *before, last = entries
    if any(render_event(entry.event, reader) is not None for entry in before):
        return None
    return last.event

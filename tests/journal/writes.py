"""What tests of the stores write: entries of a stream, and a retention that is soon exceeded."""

from headway.events import Completed, Entry, Event, Part, Progress, encode_json
from headway.journal import Write
from headway.settings import Retention

END = Completed(encode_json(None))
SMALL = Retention(ttl=100, max_bytes=100_000, stream_entries=40, stream_bytes=8_000)


def write(
    stream: str, after: int, count: int, *, time: float = 1.0, end: bool = False, size: int = 0
) -> Write:
    """So many entries for a stream; the last one is terminal where `end`."""
    event: Event = Part(encode_json("x" * size)) if size else Progress(1)
    entries = [Entry(after + n + 1, time, event) for n in range(count)]
    if end:
        entries[-1] = Entry(after + count, time, END)
    return Write(stream, after, entries, end)

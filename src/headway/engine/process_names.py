"""Names of processes: whose a run is can be told from its id."""

import re
import secrets

TAG_LENGTH = 8

WORKERS = "_worker_"
"""In the place of a process's tag: the run is for whichever worker takes it."""

_RUN_ID = re.compile(r"[A-Za-z0-9_-]{40}")


def process_of(stream: str) -> str:
    """The tag of the process that began the run of a stream."""
    return stream.rpartition("/")[2][:TAG_LENGTH]


def new_tag() -> str:
    """A tag for a process that no other one has."""
    return _token(6)


def new_call() -> str:
    """The part of a run's id that nobody can guess."""
    return _token(24)


def _token(size: int) -> str:
    """Random bytes as letters, digits, - and _; no - first, or it would be an option to a shell's
    command, as in `headway cancel RUN`."""
    while (token := secrets.token_urlsafe(size)).startswith("-"):
        pass
    return token


def call_of(stream: str) -> str:
    """What the two runs of a call for a worker have in common, and no other one."""
    return stream.rpartition("/")[2][TAG_LENGTH:]


def is_for_workers(stream: str) -> bool:
    """Whether the run of a stream is executed by workers, and not by who accepted it."""
    return process_of(stream) == WORKERS


def process_stream(tag: str) -> str:
    """Where the process with this tag shows that it is there."""
    return f"process/{tag}"


def pulse_stream(tag: str) -> str:
    """Where a thread shows it, while the event loop of that process is held."""
    return f"pulse/{tag}"


def is_id_of_run(text: str) -> bool:
    """Whether this may be the id of a run: the tag of a process and 24 random bytes."""
    return _RUN_ID.fullmatch(text) is not None

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


def new_call() -> str:
    """The part of a run's id that nobody can guess."""
    return secrets.token_urlsafe(24)


def call_of(stream: str) -> str:
    """What the two runs of a call for a worker have in common, and no other one."""
    return stream.rpartition("/")[2][TAG_LENGTH:]


def is_for_workers(stream: str) -> bool:
    """Whether the run of a stream is executed by workers, and not by who accepted it."""
    return process_of(stream) == WORKERS


def process_stream(tag: str) -> str:
    """Where the process with this tag shows that it is there."""
    return f"process/{tag}"


def is_id_of_run(text: str) -> bool:
    """Whether this may be the id of a run: the tag of a process and 24 random bytes."""
    return _RUN_ID.fullmatch(text) is not None

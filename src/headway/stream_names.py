"""Names of streams, and the ids that they are made of: built and parsed here and nowhere else.

A journal is many streams, each with a name. These are all kinds of them:

    run/OWNER/RUN           one request and all that its execution says
    inbox/OWNER/RUN         what others ask of that run
    questions/OWNER/RUN     which of its questions are open
    checkpoints/OWNER/RUN   what it can be executed again with, after its process died
    result/OWNER/RUN        its result, where that is too large for an answer
    key/PRINCIPAL/NAME      the run that an idempotency key or a handle names
    session/OWNER           a 2025 session
    process/PROCESS         the lease of a process: it is alive while it renews it
    pulse/PROCESS           the same, written by a thread while the event loop is held
    orders/PROCESS          what a process is asked, of runs that have no inbox
    changes, notices        what every process on the journal reads

OWNER is who may read a run: `PRINCIPAL` at 2026-07-28, and `PRINCIPAL.SESSION` in a 2025 session.
Both parts are digests, so that a name gives no secret away. The part before the dot decides who
makes room in a full journal (`journal/eviction.py`).

RUN is `PROCESS` + `CALL`, 8 and 32 characters: the process that accepted the request, and what
nobody can guess. A call that workers execute has two runs, of the server and of the worker: they
have the same CALL, and the worker's has `_worker_` in place of the process.

The names are on disk. A journal outlives releases, so none of them may change.
"""

import hashlib
import os
import re
from binascii import b2a_base64
from functools import lru_cache
from typing import Final

RUN_STREAMS: Final = "run/"
QUESTION_STREAMS: Final = "questions/"
CHECKPOINT_STREAMS: Final = "checkpoints/"
KEY_STREAMS: Final = "key/"
SESSION_STREAMS: Final = "session/"
PROCESS_STREAMS: Final = "process/"

CHANGES: Final = "changes"
"""The broadcast stream of changes that clients are notified of: of a list or a resource."""

NOTICES: Final = "notices"
"""The broadcast stream of notices that only processes need."""

PROCESS_ID_LENGTH: Final = 8

WORKERS: Final = "_worker_"
"""In place of a process's id: the run is for whichever worker takes it."""

_RUN_ID: Final = re.compile(r"[A-Za-z0-9_-]{40}")


def _as_text(data: bytes) -> str:
    """Return bytes, a multiple of three, as letters, digits, - and _ (RFC 4648, 5)."""
    return b2a_base64(data, newline=False).translate(_URL_SAFE).decode()


_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


# Owners


def tag_of(secret: str) -> str:
    """Return a name for a session or principal that does not reveal its secret."""
    return _as_text(hashlib.blake2b(secret.encode(), digest_size=12).digest())


@lru_cache(maxsize=1000)
def principal_tag(principal: str) -> str:
    """Return the owner for the streams of a principal; all anonymous callers share one."""
    return tag_of(f"principal {principal}")


ANONYMOUS: Final = principal_tag("")
"""The owner of the streams of all callers that are not authenticated."""


def session_tag(principal: str, session_id: str) -> str:
    """Return the owner for the streams of a session; it begins with that of its principal."""
    return f"{principal_tag(principal)}.{tag_of(session_id)}"


def session_name(tag: str) -> str:
    """Return the session's own part of its tag, for its client and the logs."""
    return tag.rpartition(".")[2]


def is_of_session(stream: str) -> bool:
    """Return whether the run of a stream belongs to a 2025 session, and not to a principal."""
    return "." in stream.rpartition("/")[0]


# Ids of processes and runs


def new_process_id() -> str:
    """Return an id for a process that no other one has."""
    return _as_token(os.urandom(6))


def new_call_id() -> str:
    """Return the part of a run's id that nobody can guess."""
    return _as_token(_random_bytes())


def _as_token(data: bytes) -> str:
    """Return random bytes as letters, digits, - and _.

    The first is no -: it would be an option to a shell's command, as in `headway cancel RUN`.
    """
    while (token := _as_text(data)).startswith("-"):
        data = os.urandom(len(data))
    return token


_CALL_BYTES: Final = 24
_PIECES: Final = 128
"""Pieces of random bytes that are got in one go: asking the system costs as much as all else."""

_pool: list[bytes] = []


def _random_bytes() -> bytes:
    """Return bytes of the system's random source, none of them twice, in whatever thread."""
    while True:
        try:
            return _pool.pop()  # one step of the interpreter, so no other thread has the same
        except IndexError:
            data = os.urandom(_CALL_BYTES * _PIECES)
            _pool.extend(data[at : at + _CALL_BYTES] for at in range(0, len(data), _CALL_BYTES))


# A process that is forked must not give the same ids as its parent.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.clear)


def is_run_id(text: str) -> bool:
    """Return whether this may be the id of a run: that of a process and 24 random bytes."""
    return _RUN_ID.fullmatch(text) is not None


def run_id_of(stream: str) -> str:
    """Return the id of a run from the name of its stream, or of one beside it."""
    return stream.rpartition("/")[2]


def reference_of(stream: str) -> str:
    """Return a short name of a run for logs, lists and messages; it gives no access."""
    return run_id_of(stream)[PROCESS_ID_LENGTH : PROCESS_ID_LENGTH + 8]


def process_of(stream: str) -> str:
    """Return the id of the process that accepted the run, from its stream or its id."""
    return run_id_of(stream)[:PROCESS_ID_LENGTH]


def call_of(stream: str) -> str:
    """Return the part of a run's id that only the two runs of a call for a worker share."""
    return run_id_of(stream)[PROCESS_ID_LENGTH:]


def is_for_workers(stream: str) -> bool:
    """Return whether workers execute the run of a stream, and not the process that accepted it."""
    return process_of(stream) == WORKERS


# Streams of runs


def run_stream(owner: str, run_id: str) -> str:
    """Return the stream of the owner's run with this id."""
    return f"run/{owner}/{run_id}"


def runs_prefix(owner: str) -> str:
    """Return the prefix of the streams of an owner's runs; a principal's sessions included."""
    return f"run/{owner}"


def sibling_run(stream: str, run_id: str) -> str:
    """Return the stream of another run of the same owner."""
    return f"{stream.rpartition('/')[0]}/{run_id}"


def inbox_stream(run: str) -> str:
    """Return the inbox of the run with this stream."""
    return f"inbox/{run.removeprefix(RUN_STREAMS)}"


def inboxes_prefix(owner: str) -> str:
    """Return the prefix of the inboxes of an owner's runs."""
    return f"inbox/{owner}"


def checkpoint_stream(run: str) -> str:
    """Return the stream with the checkpoints of the run with this stream."""
    return f"checkpoints/{run.removeprefix(RUN_STREAMS)}"


def result_stream(run: str) -> str:
    """Return the stream with the result that was too large for the answer of this run."""
    return f"result/{run.removeprefix(RUN_STREAMS)}"


def questions_stream(run: str, question_id: str) -> str:
    """Return the stream of open questions that this question of a run is in.

    It is named after the run that asked: a mirror passes the other run's questions on.
    """
    owner = run.removeprefix(RUN_STREAMS).rpartition("/")[0]
    return f"questions/{owner}/{question_id.rpartition('.')[0]}"


def run_beside(stream: str) -> str:
    """Return the stream of the run that an inbox, checkpoints or a result belong to."""
    return RUN_STREAMS + stream.partition("/")[2]


def run_of_questions(questions: str) -> str:
    """Return the stream of the run whose open questions this stream has."""
    owner, _, name = questions.removeprefix(QUESTION_STREAMS).rpartition("/")
    return run_stream(owner, run_of_question(name))


def run_of_question(question_id: str) -> str:
    """Return the id of the run that asked a question, from the question's."""
    return question_id.partition(".")[0]


# Other streams


def key_stream(principal: str, name: str) -> str:
    """Return the stream of a key of a principal."""
    return f"key/{principal}/{name}"


def keys_prefix(key: str) -> str:
    """Return the prefix of the streams of all keys of this key's principal."""
    return key.rpartition("/")[0] + "/"


def handle_stream(principal: str, run_id: str) -> str:
    """Return the key that a run's own id is, once its client has it as a handle."""
    return key_stream(principal, tag_of(f"run {run_id}"))


def session_stream(tag: str) -> str:
    """Return the stream of the session with this tag."""
    return f"session/{tag}"


def session_tag_of(stream: str) -> str:
    """Return the tag of the session with this stream."""
    return stream.removeprefix(SESSION_STREAMS)


def is_session_stream(stream: str) -> bool:
    """Return whether this is a session's own stream."""
    return stream.startswith(SESSION_STREAMS)


def process_stream(process_id: str) -> str:
    """Return the stream with the signs of life of a process."""
    return f"process/{process_id}"


def process_id_of(stream: str) -> str:
    """Return the id of the process with this stream."""
    return stream.removeprefix(PROCESS_STREAMS)


def pulse_stream(process_id: str) -> str:
    """Return the stream with the signs of life of a process whose event loop is held."""
    return f"pulse/{process_id}"


def process_inbox_stream(process_id: str) -> str:
    """Return the stream of the requests to a process."""
    return f"orders/{process_id}"

"""The child process of `in_process`: it executes calls, one after the other.

It knows its parent only as two pipes: calls come in on the first, frames go out on the second. When
the first is closed, however the parent ended, the process ends with all that it started.

The first message to it lists the files of modules that it would not find, or would find elsewhere.
A frame is one byte for its kind, the length of its content, and the content. In the process
`report`, `track`, `stage`, `log` and `part` find a `Recorder` with a `Relay` instead of a run.
"""

import contextvars
import os
import pickle
import signal
import struct
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, BinaryIO, NoReturn

import msgspec

from headway.api.pool.module_files import use_module_files
from headway.engine.run.recorder import RecordedOutput, Recorder
from headway.engine.tool_failures import describe_error
from headway.events import Event, as_encodable
from headway.jsonable import as_base_type

SAID = b"s"
"""Output of the function: an event as JSON."""

RETURNED = b"r"
"""The result of the function, pickled."""

RAISED = b"x"
"""The exception of the function, pickled."""

FAILED = b"f"
"""A text that says why there is neither."""

HEADER = struct.Struct("!c?Q")
"""The kind of frame; whether the process can take another call; the number of bytes that follow."""

SIZE = struct.Struct("!Q")
"""The bytes of a call."""

REPORT_RATE = 20.0
"""Progress messages a second that leave the process: more than a client is sent, and few enough to
cost a function that reports all the time nothing."""


def serve_calls() -> NoReturn:
    """Execute calls until the parent closes its pipe."""
    calls, frames = _own_pipes()
    inbox: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read_calls, args=(calls, inbox), daemon=True).start()
    use_module_files(msgspec.json.decode(inbox.get()))
    while True:
        _answer_call(inbox.get(), frames)


def _own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return the pipes that were stdin and stdout; code that reads or prints gets others."""
    calls, frames = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return calls, frames


def _read_calls(calls: BinaryIO, inbox: "SimpleQueue[bytes]") -> None:
    while header := calls.read(SIZE.size):
        if len(header) < SIZE.size:
            break
        size = SIZE.unpack(header)[0]
        call = calls.read(size)
        if len(call) < size:
            break
        inbox.put(call)
    end_process()


def end_process() -> NoReturn:
    """End this process, and those that it started, at once."""
    if os.name == "posix" and os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def _answer_call(call: bytes, frames: BinaryIO) -> None:
    before = set(threading.enumerate())
    relay = Relay(frames)
    beat = threading.Event()
    threading.Thread(target=_keep_flushing, args=(relay, beat), daemon=True).start()
    # In a context of its own, so that one call does not find what another one has set.
    kind, data = contextvars.Context().run(_call_function, call, relay)
    beat.set()
    relay.finish(success=False)
    # A thread that is left over would go on during the next call.
    left = [each for each in threading.enumerate() if each not in before and each.name != FLUSHER]
    relay.close(kind, data, again=not left)


FLUSHER = "headway-flush"


def _keep_flushing(relay: "Relay", stop: threading.Event) -> None:
    threading.current_thread().name = FLUSHER
    while not stop.wait(1 / REPORT_RATE):
        relay.flush()


def _call_function(call: bytes, relay: "Relay") -> tuple[bytes, bytes]:
    try:
        function, args, kwargs = pickle.loads(call)
    except Exception as error:  # noqa: BLE001 - whatever the author's modules raise
        return FAILED, f"cannot be given the call: {_error_sentence(error)}".encode(
            errors="replace"
        )
    try:
        with Recorder(relay).as_current_run():
            value = function(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - the parent raises it
        return _pack_error(error)
    try:
        return RETURNED, pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001 - whatever its own pickling raises
        text = f"cannot give back a {type(value).__qualname__}: {_error_sentence(error)}"
        return FAILED, text.encode(errors="replace")


def _pack_error(error: BaseException) -> tuple[bytes, bytes]:
    """Return the error for the parent: itself, or the nearest of its classes that can be sent."""
    told = "".join(traceback.format_exception(error)).rstrip()
    if not isinstance(error, Exception):
        # An exception that ends a process or a task is meant for this process, not for the server.
        sys.stderr.write(f"{told}\n")
        return FAILED, describe_error(error).encode(errors="replace")
    for likeness in _sendable_forms(error):
        with suppress(Exception):  # many exceptions can be pickled but not unpickled
            likeness.add_note(f"In the process that worked for it:\n{told}")
            data = pickle.dumps(likeness, pickle.HIGHEST_PROTOCOL)
            if type(pickle.loads(data)) is type(likeness):
                return RAISED, data
    return RAISED, pickle.dumps(RuntimeError(_error_sentence(error)))


def _sendable_forms(error: Exception) -> Iterator[BaseException]:
    yield error
    for kind in type(error).__mro__[1:]:
        if issubclass(kind, Exception):
            with suppress(Exception):
                yield kind(str(error))


def _error_sentence(error: BaseException) -> str:
    try:
        return f"{type(error).__qualname__}: {error}"
    except Exception:  # noqa: BLE001 - an error whose text cannot be made
        return type(error).__qualname__


class Relay(RecordedOutput):
    """Writes everything that the function gives out as frames for the parent, in order.

    Progress is sampled; `flush` writes the news that no sample has written yet.
    """

    def __init__(self, frames: BinaryIO) -> None:
        super().__init__(self._write_event, REPORT_RATE)
        self._frames = frames
        self._is_open = True

    def write_sample(self) -> None:
        """Take a sample of the stages and tracks; the next one is taken by `flush`."""
        with self._lock:
            super().write_sample()
            if self.stages is not None:
                self.stages.pending = True

    def flush(self) -> None:
        """Write what is new."""
        with self._lock:
            if self.stages is not None:
                self.stages.pending = False
            self.finish(success=False)

    def close(self, kind: bytes, data: bytes, *, again: bool) -> None:
        """Write how the call ended; output after that is dropped."""
        with self._lock:
            self._is_open = False
            self._write_frame(kind, data, again=again)

    def _write_event(self, event: Event) -> None:
        try:
            data = _encode(event)
        except UnicodeEncodeError:  # a lone surrogate, as file names can hold
            data = _encode(as_encodable(event))
        with self._lock:
            if self._is_open:
                self._write_frame(SAID, data)

    def _write_frame(self, kind: bytes, data: bytes, *, again: bool = True) -> None:
        rest = memoryview(HEADER.pack(kind, again, len(data)) + data)
        try:
            while rest:
                rest = rest[self._frames.write(rest) :]
        except OSError:
            end_process()  # the parent is gone


_encode: Any = msgspec.json.Encoder(enc_hook=as_base_type).encode

"""An audit log: lines of JSON, written by a thread, in order, none of them twice.

    put ──▶ waiting (bounded) ──▶ thread ──▶ destination
                                    │ it cannot be written
                                    └── kept, and tried again each `RETRY_INTERVAL`

Nothing on the event loop waits for a disk. A line that cannot be written waits, and those after it;
only what is beyond `MOST_WAITING`, or left at the end, is lost, and counted.
"""

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Final

from headway.audit.audit_section import AuditConfig
from headway.audit.destinations import Destination, cannot_write, destination_of
from headway.jsonable import encode_json
from headway.log_lines import quiet_logger

logger = quiet_logger(__name__)

MOST_WAITING: Final = 10_000
"""Lines that may wait to be written; those about refusals, which anybody can cause, take half."""

BATCH: Final = 256
"""Lines that are written at once."""

RETRY_INTERVAL: Final = 0.5
"""Seconds between two tries of a destination that cannot be written."""

CLOSE_TIMEOUT: Final = 2.0
"""Seconds that a stop waits for lines to be written."""


class AuditLog:
    """Writes records to the destination of a configuration, from `open` to `close`.

    `open`, `put` and `close` are for one thread, the event loop's. `count_lost` is called there
    with the number of records that will not be written.
    """

    def __init__(
        self,
        config: AuditConfig,
        count_lost: Callable[[int], None],
        *,
        destination: Destination | None = None,
        retry_interval: float | None = None,
    ) -> None:
        self.config = config
        self._count_lost = count_lost
        self._destination = destination or destination_of(config.to)
        self._retry_interval = RETRY_INTERVAL if retry_interval is None else retry_interval
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._is_closing = False
        self._has_dropped = False
        self.failure = ""
        """Why it cannot be written at the moment; empty while it can."""
        self._thread: threading.Thread | None = None

    @property
    def is_refusing(self) -> bool:
        """True while calls are to be refused, because they could not be written."""
        if not self.config.required:
            return False
        return self.failure != "" or len(self._waiting) >= MOST_WAITING

    def open(self, first: Mapping[str, object]) -> None:
        """Open the destination and write a first record, so that a full disk is known at once.

        Raises:
            SetupError: The destination cannot be opened.
        """
        try:
            self._destination.open()
        except OSError as error:
            raise cannot_write(self.config.to, error) from error
        self._waiting.append(_line_of(first))
        self._write_some()
        self._thread = threading.Thread(target=self._write_all, daemon=True)
        self._thread.name = "headway-audit"
        self._thread.start()

    def put(self, record: Mapping[str, object], *, is_refusal: bool = False) -> None:
        """Have a record written; one that finds no room is lost and counted."""
        line = _line_of(record)
        with self._changed:
            has_room = len(self._waiting) < MOST_WAITING // (2 if is_refusal else 1)
            if has_room:
                self._waiting.append(line)
                self._changed.notify_all()
        if not has_room:
            if not self._has_dropped:
                logger.error("audit records are lost: %d wait to be written", MOST_WAITING)
            self._has_dropped = True
            self._count_lost(1)

    def wait_until_written(self) -> None:
        """Return when what waits is written, or `CLOSE_TIMEOUT` later; nothing may follow."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(CLOSE_TIMEOUT)

    def close(self) -> None:
        """Close the destination; what still waits is lost, and counted."""
        if self._thread is not None and not self._thread.is_alive():
            self._destination.close()
        if left := len(self._waiting):
            logger.error("%d audit records were not written (%s)", left, self.failure or "slow")
            self._count_lost(left)

    # In the thread

    def _write_all(self) -> None:
        limit = float("inf")
        while True:
            with self._changed:
                while not self._waiting and not self._is_closing:
                    self._changed.wait()
                if not self._waiting:
                    return
                if self._is_closing:
                    limit = min(limit, time.monotonic() + CLOSE_TIMEOUT / 2)
            if not self._write_some():
                if time.monotonic() >= limit:
                    return
                with self._changed:
                    self._changed.wait(self._retry_interval)

    def _write_some(self) -> bool:
        """Write the next lines; False when the destination takes none."""
        with self._changed:
            lines = list(islice(self._waiting, BATCH))
        try:
            written, failure = self._destination.write(lines), ""
        except OSError as error:
            written, failure = 0, error.strerror or str(error)
        with self._changed:
            for _ in range(written):
                self._waiting.popleft()
        if written:
            failure = ""
        elif not failure:
            failure = "no line fits"
        self._tell(failure)
        return written > 0

    def _tell(self, failure: str) -> None:
        """Log, once, that the log cannot be written, and that it can be again."""
        before, self.failure = self.failure, failure
        if failure and not before:
            also = "; calls are refused until it can" if self.config.required else ""
            logger.error(
                "the audit log %s cannot be written: %s; its records wait%s",
                self.config.to, failure, also,
            )  # fmt: skip
        elif before and not failure:
            logger.warning("the audit log %s is written again", self.config.to)


def _line_of(record: Mapping[str, object]) -> bytes:
    """Return a record as a line of ASCII: what is shown on a terminal cannot drive it."""
    line = bytes(encode_json(dict(record)))
    if not line.isascii():
        line = json.dumps(json.loads(line), separators=(",", ":")).encode()
    return line + b"\n"

"""What encryption of a journal costs: `python -m bench.encryption [redis://host:6379]`.

The work of `bench.journals`, with keys and without, in turns. For each journal and kind of work it
prints entries a second without and with keys, and the processor time of one entry in this process.
"""

import asyncio
import logging
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from bench.journals import EVENTS, SETTLED, WORK
from headway.encryption import Encryption, new_key

ROUNDS = 5


def main(redis: str) -> None:
    """Print a row for each journal and kind of work."""
    logging.disable(logging.WARNING)  # a Redis of the benchmark need not write to disk
    keys = Encryption((new_key(),))
    with TemporaryDirectory() as directory:
        file, sign = Path(directory), "&" if "?" in redis else "?"
        urls: dict[str, Callable[[], str]] = {
            "sqlite": lambda: f"sqlite:///{file}/{uuid4().hex}.db",
            "redis": lambda: f"{redis}{sign}prefix=bench-{uuid4().hex}:",
        }
        print(f"{'':18}{'entries/s':>12}{'encrypted':>12}{'':>7}{'us each':>10}{'encrypted':>12}")
        for name, url in urls.items():
            for kind in WORK:
                print(f"{name:8}{kind:10}" + _compare(kind, url, keys))


def _compare(kind: str, url: Callable[[], str], keys: Encryption) -> str:
    """Return the medians of some rounds, as a row."""
    rates: dict[bool, list[float]] = {False: [], True: []}
    spent: dict[bool, list[float]] = {False: [], True: []}
    count = SETTLED if kind == "settled" else EVENTS
    for _ in range(ROUNDS):
        for is_encrypted in (False, True):
            own = time.process_time()
            rates[is_encrypted].append(
                asyncio.run(WORK[kind](url(), keys if is_encrypted else None))
            )
            spent[is_encrypted].append((time.process_time() - own) / count * 1e6)
    plain, secret = (statistics.median(rates[each]) for each in (False, True))
    before, after = (statistics.median(spent[each]) for each in (False, True))
    return f"{plain:12,.0f}{secret:12,.0f}{secret / plain:6.2f}x{before:10.1f}{after:12.1f}"


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main(*sys.argv[1:2] or ["redis://127.0.0.1:6379"])

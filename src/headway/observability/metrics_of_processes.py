"""The metrics of several processes on one port, which any of them may be asked for.

Each process writes what it has counted into a file of a directory that they share, once a second
and as it ends. The one that is asked adds the others' to its own. What a process has counted stays
when it is gone, so that no counter goes back; what it had in use does not. A process that is killed
leaves out what it counted in its last second.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Final, TypeVar

import msgspec

DIRECTORY: Final = "HEADWAY_METRICS_DIRECTORY"
"""The variable by which a process gets the directory."""

Labels = tuple[str, ...]

Values = Mapping[Labels, float]

T = TypeVar("T")


class Distribution(msgspec.Struct, frozen=True):
    """The values of one histogram: how many are up to each bound, and their sum."""

    bounds: list[float]
    counts: list[int]
    total: float


class Snapshot(msgspec.Struct, frozen=True):
    """The counts of one process, by the names of the families: labels and values."""

    gauges: dict[str, list[tuple[list[str], float]]]
    counters: dict[str, list[tuple[list[str], float]]]
    histograms: dict[str, list[tuple[list[str], Distribution]]]


class Ended(msgspec.Struct, frozen=True):
    """The counts of processes that are gone, and the names of those that were put in last."""

    names: list[str]
    snapshot: Snapshot


ENDED: Final = "ended"
"""The name of the one file of processes that have ended."""

_SNAPSHOT: Final = msgspec.msgpack.Decoder(Snapshot)

_ENDED: Final = msgspec.msgpack.Decoder(Ended)


class Snapshots:
    """The files of one directory, of which one is this process's own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # The id alone may be that of a process that has ended.
        self._own = f"{os.getpid()}-{token_hex(4)}"

    def write(self, snapshot: Snapshot) -> None:
        """Write what this process has counted, in place of what it wrote before."""
        with suppress(OSError):  # a full disk: the next one may succeed
            self._replace_file(self._own, msgspec.msgpack.encode(snapshot))

    def read_others(self) -> list[Snapshot]:
        """Return what the other processes have counted; gauges only of those that live."""
        while True:
            try:
                ended = self._read_ended()
                files = [each for each in self._files(ended) if each.stem != self._own]
                others = [self._read_file(file) for file in files]
            except FileNotFoundError:  # it was put among the ended ones meanwhile
                continue
            if self._read_ended() != ended:  # likewise, before its file was looked for
                continue
            return [ended.snapshot, *(each for each in others if each is not None)]

    def fold_ended(self) -> None:
        """Put what processes that have ended have counted into one file; for their parent alone.

        A process that reads meanwhile finds each of them once: the one file names those in it.
        """
        with suppress(OSError):
            before = self._read_ended()
            files = [file for file in self._files(before) if not _lives(file)]
            counts = [each for each in map(self._read_file, files) if each is not None]
            names = [file.stem for file in files]
            ended = Ended(names, add_snapshots([before.snapshot, *counts]))
            self._replace_file(ENDED, msgspec.msgpack.encode(ended))
            for file in files:
                file.unlink(missing_ok=True)

    def _files(self, ended: Ended) -> list[Path]:
        """Return the files of single processes that are not among the ended ones."""
        files = self._directory.glob("*-*.counts")
        return [file for file in files if file.stem not in ended.names]

    def _read_ended(self) -> Ended:
        try:
            data = (self._directory / f"{ENDED}.counts").read_bytes()
        except FileNotFoundError:
            return Ended([], Snapshot({}, {}, {}))
        return _ENDED.decode(data)

    def _read_file(self, file: Path) -> Snapshot | None:
        """Return the counts in a file; None where it cannot be read.

        Raises:
            FileNotFoundError: It is gone.
        """
        data = file.read_bytes()
        with suppress(msgspec.MsgspecError):
            snapshot = _SNAPSHOT.decode(data)
            return snapshot if _lives(file) else msgspec.structs.replace(snapshot, gauges={})
        return None

    def _replace_file(self, name: str, data: bytes) -> None:
        written = self._directory / f"{name}.new"
        written.write_bytes(data)
        written.replace(self._directory / f"{name}.counts")


def _lives(file: Path) -> bool:
    """Return whether the process of a file is there."""
    return _is_alive(int(file.stem.partition("-")[0]))


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def add_values(each: Iterable[Values]) -> Values:
    """Return the sums of several processes' values."""
    added: dict[Labels, float] = {}
    for values in each:
        for labels, value in values.items():
            added[labels] = added.get(labels, 0) + value
    return added


def take_largest(each: Iterable[Values]) -> Values:
    """Return the largest of several processes' values: each has its own limits, and uses them."""
    largest: dict[Labels, float] = {}
    for values in each:
        for labels, value in values.items():
            largest[labels] = max(largest.get(labels, value), value)
    return largest


def add_distributions(
    each: Iterable[Mapping[Labels, Distribution]],
) -> dict[Labels, Distribution]:
    """Return the sums of several processes' histograms."""
    added: dict[Labels, Distribution] = {}
    for histograms in each:
        for labels, seen in histograms.items():
            before = added.get(labels)
            counts = (
                seen.counts
                if before is None
                else [a + b for a, b in zip(before.counts, seen.counts, strict=True)]
            )
            total = seen.total + (0 if before is None else before.total)
            added[labels] = Distribution(seen.bounds, counts, total)
    return added


Labelled = list[tuple[list[str], T]]


def labelled(families: Mapping[str, Labelled[T]], name: str) -> dict[Labels, T]:
    """Return a family's values by their labels."""
    return {tuple(labels): value for labels, value in families.get(name, [])}


def listed(values: Mapping[Labels, T]) -> Labelled[T]:
    """Return a family's values as they are written."""
    return [(list(labels), value) for labels, value in values.items()]


def add_snapshots(each: Sequence[Snapshot]) -> Snapshot:
    """Return the sum of what several processes have counted; gauges are left out."""
    counters = {name for one in each for name in one.counters}
    histograms = {name for one in each for name in one.histograms}
    return Snapshot(
        {},
        {
            name: listed(add_values(labelled(one.counters, name) for one in each))
            for name in counters
        },
        {
            name: listed(add_distributions(labelled(one.histograms, name) for one in each))
            for name in histograms
        },
    )

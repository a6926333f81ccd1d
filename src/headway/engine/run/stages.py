"""The progress of a run as a tree: stages and tracks, each a share of what it is part of.

This module must not know clocks, threads or the journal. Nodes take reports; `Root.sample_progress`
adds them up whenever it is called.

The rules:

- A node takes `weight` units of its parent. A stage's weight is 1 unless the author says
  otherwise, a track's its number of items: a tool with one track counts items.
- A parent's total is what the author declared, or the sum of the weights seen so far, which grows.
- Inside a track each item is one unit, shared by what is opened while the item is worked on.
- A share never falls: when a total grows, what was shown stays until it is passed.
- A node that ends in order counts as full. One that is left by an exception or a `break` keeps the
  share that it had.
"""

from collections.abc import Callable
from contextvars import ContextVar
from threading import RLock
from typing import Any, Protocol

from headway.engine.run.current_run import current_run, is_muted
from headway.engine.run.progress_pacing import UNKNOWN, Pacer, as_finite
from headway.engine.tool_failures import contain_failures
from headway.events import Progress
from headway.log_lines import quiet_logger

logger = quiet_logger(__name__)


class ItemCheckpoints(Protocol):
    """The record of which items of a track are done."""

    @property
    def inner_path(self) -> str:
        """The path of tracks that begin while the item is worked on."""
        ...


Label = str | Callable[[Any], str]
"""A message for an item: a format with `{item}`, or a function of the item."""

SEPARATOR = " · "

DIGITS = 9
"""Decimal digits that are kept: sums of shares are no more exact than that."""

current_node: ContextVar["Node | None"] = ContextVar("headway_stage", default=None)
"""The innermost stage or track that the current task or thread works in."""


class Node:
    """One stage; the base class of all nodes.

    Children that have ended are not kept: what they add up to is in `_gone` and `_gone_weight`.
    """

    __slots__ = (
        "_children", "_gone", "_gone_weight", "_high", "_own", "_own_total", "_text", "closed",
        "name", "parent", "root", "weight",
    )  # fmt: skip

    def __init__(
        self, parent: "Node | None", name: str | None, weight: float | None, total: float | None
    ) -> None:
        self.parent = parent
        self.root: Root = parent.root if parent is not None else self  # pyright: ignore[reportAttributeAccessIssue] - only a Root has no parent
        self.name = name
        self.weight = weight
        self.closed = False
        self._own = 0.0  # what was reported for this node itself
        self._own_total = as_finite(total)
        self._text: str | None = None
        self._children: dict[int, Node] = {}
        self._gone = 0.0  # what the children that have ended add up to
        self._gone_weight = 0.0
        self._high = 0.0

    def open(self) -> None:
        """Add this to its parent."""
        if self.parent is not None:
            with self.root.lock:
                self.parent._children[id(self)] = self
        self.root.newest = self

    def close(self, *, full: bool) -> None:
        """End, full or with the share that it has. A second call does nothing."""
        with self.root.lock:
            if self.closed:
                return
            if full:
                self._mark_full()
            share, weight = self.share_of_parent()
            self.closed = True
            self._children.clear()
            parent = self.parent
            if parent is not None and parent._children.pop(id(self), None) is not None:
                parent._gone += share
                parent._gone_weight += share if weight is None else weight

    def report(self, progress: object, total: object, message: object) -> None:
        """Take a report for this node itself; what is not a finite number is ignored."""
        value, limit = as_finite(progress), as_finite(total)
        if limit is not None:
            self._own_total = max(limit, 0.0)
        if value is not None:
            self._own = max(self._own, value)
        if message is not None:
            self._text = str(message)
        self.root.newest = self

    def share_of_parent(self) -> tuple[float, float | None]:
        """Return how many units of the parent are done, of how many; None if that is unknown."""
        weight = 1.0 if self.weight is None else self.weight
        return weight * self.fraction_done(), weight

    def fraction_done(self) -> float:
        """Return how much of this node is done, from 0 to 1; it never falls."""
        done, total = self._sum_parts()
        now = done / total if total else 0.0
        self._high = max(self._high, min(now, 1.0))
        return self._high

    def own_message(self) -> str | None:
        """Return the node's own message at the moment."""
        return self._text

    def full_message(self) -> str | None:
        """Return the message to show: the names of the stages around, then the node's own."""
        words: list[str] = []
        node: Node | None = self
        while node is not None:
            words += [
                word for word in (node.own_message() if node is self else None, node.name) if word
            ]
            node = node.parent
        return SEPARATOR.join(reversed(words)) or None

    def _mark_full(self) -> None:
        self._high = 1.0

    def _sum_parts(self) -> tuple[float, float]:
        """Return what own reports and children add up to, and of how much."""
        done, total = self._gone, self._gone_weight
        for child in list(self._children.values()):
            share, weight = child.share_of_parent()
            done += share if weight is not None else 0.0
            total += 1.0 if weight is None else weight
        if self._own_total is None:
            return done, total
        if not total:
            return self._own, self._own_total
        # The author declared the total: children take their units of it.
        return max(done, self._own), max(total, self._own_total)


class Items(Node):
    """A track: each item is one unit."""

    __slots__ = ("_at", "_units", "done", "item", "label", "marks", "size")

    def __init__(
        self, parent: Node, label: Label | None, weight: float | None, size: float | None
    ) -> None:
        super().__init__(parent, None, weight, None)
        self.label = label
        self.size = as_finite(size)
        self.done = 0
        self.item: Any = None
        self.marks: ItemCheckpoints | None = None
        self._at = 0  # which item is worked on
        self._units = 0.0

    def begin_item(self, item: object) -> None:
        """Begin the work on an item; what was reported within the one before is dropped."""
        if self._children or self._gone_weight or self._own_total is not None:
            with self.root.lock:
                self._children.clear()
                self._gone = self._gone_weight = self._own = 0.0
                self._own_total = None
        self.item = item
        self._at = self.done
        self.root.newest = self

    def close(self, *, full: bool) -> None:
        """End, and release the last item."""
        with self.root.lock:
            super().close(full=full)
            self.item = None

    def share_of_parent(self) -> tuple[float, float | None]:
        """Return the number of items that are done, and of how many; None if that is unknown."""
        if self.weight is not None:
            return self.weight * self.fraction_done(), self.weight
        if self.size is None:
            return self._units_done(), self._units_done() if self.closed else None
        return min(self._units_done(), self._unit_limit()), self._unit_limit()

    def fraction_done(self) -> float:
        """Return the share of the items that are done; 0 if their number is unknown."""
        limit = self._unit_limit()
        self._high = max(self._high, min(self._units_done() / limit, 1.0) if limit else 0.0)
        return self._high

    def own_message(self) -> str | None:
        """Return the author's message for the current item, or how many items are done."""
        if self.closed:
            if self.label is None:
                return None
            # What was left before its end, by an error perhaps, does not read like a success.
            of = f" of {self.size:g}" if self.size is not None and self.done < self.size else ""
            return f"{self.done}{of} done"
        if self.label is not None:
            return describe_item(self.label, self.item)
        if self.parent is self.root:
            return None
        of = "" if self.size is None else f" of {self._unit_limit():g}"
        return f"{self.done}{of}"

    def _units_done(self) -> float:
        """Return the items that are done, plus the share of the one that is worked on."""
        done = self.done
        # Between two items, what was reported within the one before is already counted in `done`.
        within, units = self._sum_parts() if done == self._at else (0.0, 0.0)
        self._units = max(self._units, done + (min(within / units, 1.0) if units else 0.0))
        return self._units

    def _unit_limit(self) -> float:
        return 0.0 if self.size is None else max(self.size, self.done)

    def _mark_full(self) -> None:
        self._high = 1.0
        self._units = max(self._units, self._unit_limit())


class Root(Node):
    """The root of all stages and tracks of a run, with what was reported before them."""

    __slots__ = ("lock", "newest", "pending")

    def __init__(self, reported: float, total: float | None) -> None:
        self.lock = RLock()
        self.newest: Node = self
        self.pending = False
        """True when there is something new and a timer will take the next sample."""
        super().__init__(None, None, None, None)
        self.report(reported, total, None)

    def sample_progress(self) -> tuple[float, float | None, str | None]:
        """Return the progress, total and message of the run at this moment."""
        with self.lock:
            done, total = self._gone + self._own, self._gone_weight
            known = True
            # A copy: a track that is garbage-collected during the loop removes itself.
            for child in list(self._children.values()):
                share, weight = child.share_of_parent()
                done += share
                if weight is None:
                    known = False
                else:
                    total += weight
            # Own reports may have no total at all: then the sum has none either.
            if self._own and self._own_total is None:
                known = False
            total += self._own_total or 0.0
            return (
                _round_value(done),
                _round_value(total) if known and total else None,
                self.newest.full_message(),
            )


def _round_value(value: float) -> float:
    """Return the value without rounding errors of sums; a whole number as an int."""
    value = round(value, DIGITS)
    return int(value) if value.is_integer() else value


def sample_stages(root: Root | None, pacer: Pacer, now: float) -> Progress | None:
    """Pass a sample of the tree to the pacer; return the progress to write now, or None."""
    if root is None:
        return None
    # The author's message function may call `report` itself: that must not get here again.
    outside, muted = current_run.set(None), is_muted.set(True)
    try:
        value, total, message = root.sample_progress()
    finally:
        current_run.reset(outside)
        is_muted.reset(muted)
    return pacer.offer_report(value, UNKNOWN if total is None else total, message, now)


def has_news(root: Root | None, pacer: Pacer) -> bool:
    """Return whether a report or a sample waits until it may be written."""
    return pacer.held or (root is not None and root.pending)


def innermost_node(root: "Root | None") -> Node | None:
    """Return the open node of this tree that the current task or thread works in, or None."""
    node = current_node.get()
    while node is not None and node.closed:
        node = node.parent
    return node if node is not None and node.root is root else root


def describe_item(label: Label, item: object) -> str:
    """Return the message for an item; empty if the author's function or format fails."""
    with contain_failures("no message for an item: the label of track()"):
        return str(label(item) if callable(label) else label.format(item=item))
    return ""

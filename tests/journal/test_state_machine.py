"""Any sequence of calls leaves every backend where a list in a dict would be."""

import asyncio
import shutil
import tempfile
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.journal.conftest import ENCRYPTION
from tests.kit.waits import PATIENCE

from headway.encryption import Encryption
from headway.errors import Conflict, StreamEnded, StreamNotFound
from headway.events import Completed, Event, Log, Part, Progress, encode_json
from headway.journal import Head, Journal, open_journal

NAMES = st.sampled_from(["a", "b", "a:1", "ä", "%"])
EVENTS = st.lists(
    st.one_of(
        st.builds(Progress, st.floats(0, 1e6), st.none(), st.none() | st.text(max_size=3)),
        st.builds(Part, st.text(max_size=5).map(encode_json)),
        st.builds(Log, st.just("info"), st.builds(encode_json, st.integers())),
    ),
    min_size=1,
    max_size=4,
)
END: Event = Completed(encode_json(None))


class Machine(RuleBasedStateMachine):
    """The model: for each stream, in order of creation, its events."""

    reopens = False
    url = "memory:"
    encryption: Encryption | None = None

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, list[Event]] = {}
        self.runner = asyncio.Runner()
        self.directory = tempfile.mkdtemp()
        self.journal = self.open()

    def open(self) -> Journal:
        journal = open_journal(self.url.format(self.directory), encryption=self.encryption)
        self.runner.run(journal.open())
        return journal

    def teardown(self) -> None:
        self.runner.run(self.journal.close())
        self.runner.close()
        shutil.rmtree(self.directory)

    def ended(self, name: str) -> bool:
        return self.model.get(name, [])[-1:] == [END]

    @rule(name=NAMES, events=EVENTS, end=st.integers(0, 3), off=st.integers(-9, 3))
    def append(self, name: str, events: list[Event], end: int, off: int) -> None:
        last = len(self.model.get(name, []))
        after = max(0, last + min(off, 0) + max(0, off - 2))
        events = [*events, END] if end == 0 else events
        appending = self.journal.append(name, events, after=after)
        if self.ended(name) or after != last:
            with pytest.raises(StreamEnded if self.ended(name) else Conflict):
                self.runner.run(appending)
            return
        assert self.runner.run(appending) == last + len(events)
        self.model.setdefault(name, []).extend(events)

    @rule(name=NAMES, events=EVENTS, settle=st.booleans())
    def append_nowait(self, name: str, events: list[Event], settle: bool) -> None:
        async def append() -> None:
            head = await self.journal.attach_stream(name)
            after = head.last
            for event in events:
                after = self.journal.append_nowait(name, event, after=after)
            if settle:
                await self.journal.wait_until_stored(name)

        if not self.ended(name):
            self.runner.run(append())
            self.model.setdefault(name, []).extend(events)

    @rule(name=NAMES, after=st.integers(0, 12), limit=st.integers(1, 6))
    def read(self, name: str, after: int, limit: int) -> None:
        reading = self.journal.read(name, after=after, limit=limit)
        if name not in self.model:
            with pytest.raises(StreamNotFound):
                self.runner.run(reading)
            return
        entries = self.runner.run(reading)
        assert [entry.event for entry in entries] == self.model[name][after : after + limit]
        assert [entry.seq for entry in entries] == [after + 1 + n for n in range(len(entries))]

    @rule(name=NAMES, after=st.integers(0, 12))
    def follow(self, name: str, after: int) -> None:
        async def follow() -> list[Event]:
            # The last entry may still be on its way into the storage.
            async with asyncio.timeout(PATIENCE):
                return [entry.event async for entry in self.journal.follow(name, after=after)]

        if self.ended(name):
            assert self.runner.run(follow()) == self.model[name][after:]

    @rule(name=NAMES)
    def drop(self, name: str) -> None:
        self.runner.run(self.journal.drop(name))
        self.model.pop(name, None)

    @precondition(lambda self: self.reopens)
    @rule()
    def reopen(self) -> None:
        self.runner.run(self.journal.close())
        self.journal = self.open()

    @rule(prefix=st.sampled_from(["", "a", "ä", "%", "b:"]))
    def streams(self, prefix: str) -> None:
        expected = [name for name in self.model if name.startswith(prefix)]
        assert self.runner.run(self.journal.streams(prefix)) == expected

    @rule(prefix=st.sampled_from(["", "a", "ä", "%", "b:"]), most=st.integers(1, 4))
    def count(self, prefix: str, most: int) -> None:
        async def count() -> int | None:
            for name in self.model:
                await self.journal.wait_until_stored(name)
            return await self.journal.global_count.count_unfinished(prefix, tuple, most)

        going_on = [name for name in self.model if name.startswith(prefix)]
        going_on = [name for name in going_on if not self.ended(name)]
        known = len(going_on) if self.journal.is_durable else None
        assert self.runner.run(count()) == known

    @invariant()
    def heads_agree(self) -> None:
        heads = {name: Head(1, len(self.model[name]), self.ended(name)) for name in self.model}
        for name, head in heads.items():
            assert self.runner.run(self.journal.head(name)) == head
        assert self.runner.run(self.journal.head_of_each([*heads, "none", *heads])) == heads


FEW = settings(max_examples=20, stateful_step_count=20, database=None)


@pytest.mark.parametrize("backend", ["memory", "sqlite", "redis", "encrypted sqlite"])
def test_any_sequence_of_calls_leaves_a_journal_as_its_model(
    backend: str, request: pytest.FixtureRequest
) -> None:
    """Each example has a storage of its own; keys in Redis expire by themselves."""
    new_url: Callable[[], str] = {
        "memory": lambda: "memory:",
        "sqlite": lambda: "sqlite:///{}/journal.db",
        "encrypted sqlite": lambda: "sqlite:///{}/journal.db",
        "redis": lambda: request.getfixturevalue("new_redis_url")(),
    }[backend]

    class BackendMachine(Machine):
        reopens = backend != "memory"
        encryption = ENCRYPTION if backend.startswith("encrypted") else None

        def __init__(self) -> None:
            self.url = new_url()
            super().__init__()

    run_state_machine_as_test(BackendMachine, settings=FEW)

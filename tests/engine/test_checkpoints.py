"""The stream of a run's checkpoints: bounded, and never without what it is for."""

from pathlib import Path

import pytest

from headway.clock import Clock
from headway.engine.recovery.checkpoints import (
    NAME_BYTES,
    SUMMARY_SHARE,
    Checkpoints,
)
from headway.engine.recovery.restart_state import fold_restart, item_place, load_restart
from headway.engine.recovery.take_over import sweep_ended, take_over
from headway.errors import Conflict
from headway.events import (
    Accepted,
    Checkpointed,
    Completed,
    ItemDone,
    Part,
    RequestStored,
    Started,
    decode_json,
    encode_json,
)
from headway.journal import Journal, open_journal
from headway.settings import Retention

pytestmark = pytest.mark.anyio

RUN = "run/owner/id"
BEGUN = RequestStored("tools/call", "t", "owner", "2025-11-25", encode_json({"name": "t"}))


def journal_in(path: Path, **kept: int) -> Journal:
    retention = Retention(**kept)
    return open_journal(f"sqlite:///{path / 'j.db'}", clock=Clock(), retention=retention)


async def test_trimmed_checkpoints_were_written_again_before(tmp_path: Path) -> None:
    async with journal_in(tmp_path, stream_entries=40) as journal:
        mine = Checkpoints.begin(journal, RUN, BEGUN)
        for number in range(500):
            mine.write(ItemDone("/0", str(number)), at=number)
            mine.write(Checkpointed(encode_json(number)), at=number)
        await mine.wait_until_stored()
    async with journal_in(tmp_path, stream_entries=40) as journal:
        entries = await journal.read_all_kept(mine.stream)
        assert entries[0].seq > 900
        memory = fold_restart(entries)
        assert memory is not None
        assert list(memory.done["/0"]) == [str(number) for number in range(500)]
        assert (memory.request, memory.at, memory.items) == (BEGUN, 499, 500)
        assert decode_json(memory.value or b"null") == 499


async def test_the_first_items_are_remembered_where_not_all_fit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    most = 100
    async with journal_in(tmp_path, stream_bytes=most * NAME_BYTES * SUMMARY_SHARE) as journal:
        mine = Checkpoints.begin(journal, RUN, BEGUN)
        for number in range(most + 50):
            mine.write(ItemDone("/0", str(number)))
        assert mine.memory.items == most
        assert caplog.text.count("100 items are done, as many as are remembered") == 1
        await mine.wait_until_stored()
        known = await load_restart(journal, RUN)
        assert known is not None
        assert known[0].items == most


async def test_inner_items_are_forgotten_when_their_outer_item_is_done(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        mine = Checkpoints.begin(journal, RUN, BEGUN)
        track = mine.open("")
        for item in ("a", "b"):
            inside = mine.open(item_place(track, item))
            deeper = mine.open(item_place(inside, "x"))
            mine.write(ItemDone(deeper, "y"))
            mine.write(ItemDone(inside, "x"))
            if item == "a":
                mine.write(ItemDone(track, item))
        assert mine.memory.done.keys() == {track, inside}
        assert mine.memory.items == 2


async def test_a_run_whose_beginning_is_trimmed_can_be_taken_over_and_the_old_one_cannot_write(
    tmp_path: Path,
) -> None:
    async with (
        journal_in(tmp_path, stream_entries=20) as first,
        journal_in(tmp_path, stream_entries=20) as second,
    ):
        mine = Checkpoints.begin(first, RUN, BEGUN)
        said = [Accepted("tools/call"), Started(), *[Part(encode_json(n)) for n in range(60)]]
        seq = await first.append(RUN, said, after=0)
        mine.write(Checkpointed(encode_json("here")), at=seq - 1)
        await mine.wait_until_stored()
        known = await load_restart(second, RUN)
        assert known is not None
        revived = await take_over(second, "other", RUN, *known, clock=Clock())
        assert revived is not None
        assert (revived.view.attempt, revived.view.last) == (2, seq + 1)
        assert decode_json(revived.parts[-1]) == 58
        mine.write(Checkpointed(encode_json("late")))
        with pytest.raises(Conflict):
            await mine.wait_until_stored()
        with pytest.raises(Conflict):
            await first.append(RUN, [Part(encode_json(1))], after=seq)
        assert await take_over(first, "third", RUN, *known, clock=Clock()) is None


async def test_checkpoints_without_a_run_are_dropped(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        for run, events in (
            ("run/o/ended", [Accepted("m"), Completed(encode_json(1))]),
            ("run/o/open", [Accepted("m")]),
        ):
            await journal.append(run, events, after=0)
        for run in ("run/o/ended", "run/o/open", "run/o/unknown"):
            await Checkpoints.begin(journal, run, BEGUN).wait_until_stored()
        await sweep_ended(journal)
        assert await journal.streams("checkpoints/", unfinished=True) == ["checkpoints/o/open"]

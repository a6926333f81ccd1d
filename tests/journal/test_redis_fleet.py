"""Redis where it is more than one server: a Cluster, and a primary that Sentinels watch."""

import asyncio
from pathlib import Path

import pytest
from tests.kit.fixtures import StartRedis, own
from tests.kit.redis_servers import watched
from tests.kit.waits import PATIENCE

from headway.errors import JournalUnavailable, SetupError
from headway.events import Completed, Progress, Started, encode_json
from headway.journal import Journal, open_journal
from headway.settings import Retention
from headway.testing import CLAUSES, Clause, FakeClock, check_clause

END = Completed(encode_json(None))
SMALL = Retention(ttl=600, max_bytes=200_000, stream_entries=300, stream_bytes=40_000)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.__name__)
async def test_every_clause_holds_on_a_cluster(cluster_url: str, clause: Clause) -> None:
    async with open_journal(own(cluster_url), retention=SMALL, clock=FakeClock()) as journal:
        await check_clause(clause, journal)


async def test_streams_on_all_nodes_are_followed_from_another_process(cluster_url: str) -> None:
    url = own(cluster_url)
    async with asyncio.timeout(PATIENCE), open_journal(url) as writer, open_journal(url) as reader:
        names = [f"run/{number}" for number in range(40)]
        await asyncio.gather(*(writer.append(name, [Started()], after=0) for name in names))
        assert sorted(await reader.streams("run/")) == sorted(names)
        cursors = [reader.open_cursor(name, after=1) for name in names]
        waiting = [asyncio.create_task(cursor.next()) for cursor in cursors]
        await asyncio.gather(*(writer.append(name, [END], after=1) for name in names))
        assert [[e.seq for e in found] for found in await asyncio.gather(*waiting)] == [[2]] * 40


async def test_a_node_by_itself_is_no_journal(cluster_url: str) -> None:
    url = own(f"redis://{cluster_url.rpartition(',')[2]}")
    with pytest.raises(SetupError, match=r"is a node of a Cluster; write redis\+cluster://"):
        await open_journal(url).open()


async def test_a_journal_goes_on_where_the_sentinels_say(
    start_redis: StartRedis, tmp_path: Path
) -> None:
    primary, url = await asyncio.to_thread(watched, start_redis, tmp_path)
    async with (
        asyncio.timeout(PATIENCE),
        open_journal(url) as writer,
        open_journal(url) as reader,
    ):
        await writer.append("run", [Started()], after=0)
        cursor = reader.open_cursor("run", after=1)
        waiting = asyncio.create_task(cursor.next())
        # What was not sent to the replica yet would be lost with the primary.
        await asyncio.to_thread(primary.wait_for_replica)
        await asyncio.to_thread(primary.kill)
        await _appended(writer, "run", 1)
        assert [entry.seq for entry in await waiting] == [2]
        assert [entry.seq for entry in await reader.read_all_kept("run")] == [1, 2]


async def _appended(journal: Journal, stream: str, after: int) -> None:
    journal.append_nowait(stream, Progress(1), after=after)
    while True:
        try:
            return await journal.wait_until_stored(stream)
        except JournalUnavailable:
            continue


async def test_a_service_that_no_sentinel_knows_is_told(
    start_redis: StartRedis, tmp_path: Path
) -> None:
    _, url = await asyncio.to_thread(watched, start_redis, tmp_path)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(JournalUnavailable, match="No master found for 'other'"):
            await open_journal(url.replace("/main/", "/other/")).open()

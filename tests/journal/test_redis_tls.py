"""Redis with TLS: what is trusted, what is not and is told, and passwords that nobody repeats."""

import asyncio
import gc
import logging
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from tests.kit.fixtures import StartRedis, own
from tests.kit.redis_servers import Certificates, watched
from tests.kit.waits import PATIENCE

from headway.errors import JournalUnavailable, SetupError
from headway.events import Completed, Started, encode_json
from headway.journal import open_journal

END = Completed(encode_json(None))

pytestmark = pytest.mark.anyio


async def works(url: str, *, then: Callable[[], None] = lambda: None) -> None:
    """Write in one journal, and follow in another one; `then` is done while both are open."""
    url = own(url)
    async with asyncio.timeout(PATIENCE), open_journal(url) as writer, open_journal(url) as reader:
        await writer.append("run", [Started()], after=0)
        cursor = reader.open_cursor("run", after=1)
        waiting = asyncio.create_task(cursor.next())
        await writer.append("run", [END], after=1)
        assert [entry.seq for entry in await waiting] == [2]
        then()


async def test_a_server_with_a_trusted_certificate_is_used(
    start_redis: StartRedis, certificates: Certificates
) -> None:
    redis = start_redis("--tls-auth-clients", "no", tls=certificates.options)
    await works(f"rediss://127.0.0.1:{redis.tls_port}/0?ssl_ca_certs={certificates.ca}")
    await works(f"rediss://127.0.0.1:{redis.tls_port}/0?ssl_cert_reqs=none")


async def test_a_server_that_asks_for_a_certificate_gets_the_one_in_the_url(
    start_redis: StartRedis, certificates: Certificates
) -> None:
    redis = start_redis(tls=certificates.options)
    await works(f"rediss://127.0.0.1:{redis.tls_port}/0{certificates.query}")
    without = f"rediss://127.0.0.1:{redis.tls_port}/0?ssl_ca_certs={certificates.ca}"
    with pytest.raises(JournalUnavailable, match="cannot be used"):
        await open_journal(without).open()


def test_a_server_that_says_nothing_any_more_is_let_go_of(
    start_redis: StartRedis, certificates: Certificates
) -> None:
    redis = start_redis("--tls-auth-clients", "no", tls=certificates.options)
    url = f"rediss://127.0.0.1:{redis.tls_port}/0?ssl_ca_certs={certificates.ca}"
    try:
        asyncio.run(works(url, then=lambda: redis.signal(signal.SIGSTOP)))
    finally:
        redis.signal(signal.SIGCONT)
    with warnings.catch_warnings(record=True) as open_still:
        warnings.simplefilter("always")
        gc.collect()
    assert [str(warning.message) for warning in open_still] == []


async def test_a_cluster_with_tls_is_used(tls_cluster_url: str) -> None:
    await works(tls_cluster_url)


async def test_a_certificate_that_is_not_trusted_is_told_with_what_to_write(
    start_redis: StartRedis, certificates: Certificates, tmp_path: Path
) -> None:
    redis = start_redis("--tls-auth-clients", "no", tls=certificates.options)
    other = Certificates.made(tmp_path)
    for query in ("", f"?ssl_ca_certs={other.ca}"):
        with pytest.raises(
            SetupError, match=r"is not trusted; write \?ssl_ca_certs=.*FAILED: self-"
        ):
            await open_journal(f"rediss://127.0.0.1:{redis.tls_port}/0{query}").open()
    url = f"rediss://localhost:{redis.tls_port}/0?ssl_ca_certs={certificates.ca}"
    with pytest.raises(SetupError, match=r"the host that it is for .*: Hostname mismatch"):
        await open_journal(url).open()


async def test_a_cluster_and_sentinels_that_are_not_trusted_are_told(
    start_redis: StartRedis, certificates: Certificates
) -> None:
    redis = start_redis("--tls-auth-clients", "no", tls=certificates.options)
    host = f"127.0.0.1:{redis.tls_port}"
    for url in (f"rediss+cluster://{host}", f"rediss+sentinel://{host}/main"):
        with pytest.raises(SetupError, match="shows a certificate that is not trusted"):
            await open_journal(url).open()


async def test_sentinels_want_a_password_of_their_own(
    start_redis: StartRedis, tmp_path: Path
) -> None:
    primary, url = await asyncio.to_thread(watched, start_redis, tmp_path, "horse")
    for query in ("", "?sentinel_password=battery"):
        with pytest.raises(SetupError, match=r"write \?sentinel_username=") as refused:
            await open_journal(url + query).open()
        assert "battery" not in str(refused.value)
    await works(f"{url}?sentinel_password=horse")
    await asyncio.to_thread(primary.kill)


async def test_sentinels_that_are_away_are_told_without_the_options_of_connections() -> None:
    with pytest.raises(JournalUnavailable, match=r"Connect call failed|Error 111") as away:
        await open_journal("redis+sentinel://127.0.0.1:1/main?sentinel_password=battery").open()
    assert "password" not in str(away.value)


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
async def test_a_file_that_is_not_there_is_told(option: str) -> None:
    with pytest.raises(SetupError, match=f"{option}=/nowhere.pem is no file"):
        open_journal(f"rediss://127.0.0.1:6379/0?{option}=/nowhere.pem")


@pytest.mark.parametrize("right", ["correct-horse", "wrong-horse"])
async def test_what_is_secret_in_a_url_is_in_no_message_and_no_log(
    start_redis: StartRedis, right: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    redis = start_redis()
    user = f"u{uuid4().hex}"
    redis.say("ACL", "SETUSER", user, "on", f">{right}", "~headway:*", "&headway:*", "+@all")
    for url in (
        f"redis://{user}:correct-horse@127.0.0.1:{redis.port}/0",
        f"redis://127.0.0.1:{redis.port}/0?username={user}&password=correct-horse",
    ):
        if right == "correct-horse":
            async with open_journal(url) as journal:
                assert await journal.append(url[-9:], [Started()], after=0) == 1
        else:
            with pytest.raises(SetupError, match="takes no such user or password") as refused:
                await open_journal(url).open()
            assert "horse" not in str(refused.value)
    assert "horse" not in caplog.text

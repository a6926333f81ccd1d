"""Connections to a Redis, to a Cluster, or to the primary that Sentinels name.

This module must not know what the commands mean, only how they are sent and answered.
"""

import asyncio
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path
from typing import Any, Protocol, cast

from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection, ConnectionPool, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from headway.errors import SetupError
from headway.journal.redis.refusals import code_of
from headway.journal.redis.url import FORMS, RedisAddress

CONNECT_TIMEOUT = 2.0
"""Seconds to wait for a connection, so that there is time left to try another server."""

_FILES = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}

Command = tuple[str | bytes | int, ...]


class Connection(Protocol):
    """A connection that sends commands and returns their replies. For one task at a time."""

    async def execute(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands and return their replies, in order; refusals are `ResponseError`s in it.

        Raises:
            RedisError, OSError: The connection failed; some of the commands may have been executed.
        """
        ...

    async def reset(self) -> None:
        """Close the connection; the next call makes a new one."""
        ...


class ConnectionFactory:
    """Makes the connections to one journal's Redis."""

    def __init__(self, address: RedisAddress) -> None:
        # RESP2: every server and proxy speaks it, and for these commands RESP3 has nothing more.
        # Retries are the pipeline's business.
        shared: dict[str, Any] = {
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": None,
            "socket_connect_timeout": CONNECT_TIMEOUT,
        }
        try:
            options = {**shared, **parse_url(address.base), "decode_responses": False}
        except ValueError as error:
            raise SetupError(f"journal URL {address.shown!r}: {error}; {FORMS}") from error
        _check_files(address.shown, options)
        self._cluster: RedisCluster | None = None
        self._sentinel: Sentinel | None = None
        self._pool: ConnectionPool | None = None
        try:
            self._configure(address, options, shared)
            if self._pool is not None:
                self._pool.make_connection()  # which is when redis-py checks the options
        except TypeError as error:  # redis-py takes options as arguments
            raise SetupError(
                f"journal URL {address.shown!r} has an unknown option: {error}"
            ) from error

    def _configure(
        self, address: RedisAddress, options: dict[str, Any], shared: dict[str, Any]
    ) -> None:
        if address.kind == "single":
            self._pool = ConnectionPool(**options)
            return
        has_tls = "connection_class" in options
        for name in ("host", "port", "connection_class"):
            options.pop(name, None)
        if address.kind == "cluster":
            options.pop("db", None)
            nodes = [ClusterNode(host, port) for host, port in address.hosts]
            self._cluster = RedisCluster(startup_nodes=nodes, ssl=has_tls, **options)
            return
        own = {k: v for k, v in options.items() if k in shared or k.startswith("ssl_")}
        for name in [name for name in options if name.startswith("sentinel_")]:
            own[name.removeprefix("sentinel_")] = options.pop(name)
        own["socket_timeout"] = CONNECT_TIMEOUT
        tls = {"ssl": True} if has_tls else {}
        self._sentinel = Sentinel(address.hosts, sentinel_kwargs={**own, **tls}, **options, **tls)
        primary = cast("Any", self._sentinel).master_for(address.service)
        self._pool = primary.connection_pool

    def new_connection(self) -> Connection:
        """Return a new connection, not yet opened."""
        return ClusterConnection(self._cluster) if self._cluster else self.new_socket()

    def new_socket(self) -> "SocketConnection":
        """Return a new connection to one server: in a Cluster each gets what is published."""
        return SocketConnection(self._connect_socket)

    async def close(self) -> None:
        """Close what the connections share."""
        with suppress(RedisError, OSError):
            if self._cluster is not None:
                await self._cluster.aclose()
            if self._sentinel is not None:
                await self._sentinel.aclose()

    async def _connect_socket(self) -> AbstractConnection:
        connection = await self._pick_node()
        try:
            await connection.connect()
        except MasterNotFoundError as error:
            raise await self._explain_no_primary(error) from error
        except BaseException:  # redis-py leaves it open where it is cancelled
            await _close_now(connection)
            raise
        return connection

    async def _explain_no_primary(self, error: MasterNotFoundError) -> Exception:
        """Return why no Sentinel named a primary: redis-py only says that none did."""
        assert self._sentinel is not None
        reasons: list[Exception] = []
        for sentinel in cast("list[Any]", self._sentinel.sentinels):
            try:
                await sentinel.ping()
            except AuthenticationError as reason:
                return RedisConnectionError(f"SENTINELAUTH {reason}")
            except (RedisError, OSError) as reason:
                reasons.append(reason)
            else:
                return error  # it knows none
        return max(reasons, key=lambda reason: code_of(reason) != "")

    async def _pick_node(self) -> AbstractConnection:
        if self._pool is not None:
            return self._pool.make_connection()
        assert self._cluster is not None
        with _as_connection_error():
            await self._cluster.initialize()
        node = cast("ClusterNode | None", self._cluster.get_default_node())
        if node is None:
            raise ConnectionError("the Cluster has no primary")
        return node.connection_class(**node.connection_kwargs)


class SocketConnection:
    """A connection to one server."""

    def __init__(self, make: Callable[[], Awaitable[AbstractConnection]]) -> None:
        self._make = make
        self._connection: AbstractConnection | None = None

    async def execute(self, commands: Sequence[Command]) -> list[Any]:
        """See `Connection.execute`."""
        await self.send(commands)
        replies: list[Any] = []
        for _ in commands:
            try:
                replies.append(await self.read_message())
            except ResponseError as error:
                replies.append(error)
        return replies

    async def send(self, commands: Sequence[Command]) -> None:
        """Send commands; `read_message` returns the replies.

        Raises:
            RedisError, OSError: The connection failed.
        """
        if self._connection is None:
            self._connection = await self._make()
        packed = self._connection.pack_commands(commands)
        await self._connection.send_packed_command(packed, check_health=False)

    async def read_message(self) -> Any:
        """Return the next reply or published message.

        Raises:
            ResponseError: The server refuses a command.
            RedisError, OSError: The connection failed.
        """
        if self._connection is None:
            raise ConnectionError("the connection is closed")
        connection = cast("Any", self._connection)  # its annotations are not complete
        return await connection.read_response(timeout=inf)

    async def server_info(self) -> dict[str, str]:
        """Return the fields of `INFO`; none where this user may not see them.

        Raises:
            RedisError, OSError: The connection failed, or Redis is not ready.
        """
        (info,) = await self.execute([("INFO",)])
        if isinstance(info, NoPermissionError):
            return {}
        if isinstance(info, Exception):
            raise info
        lines = cast("bytes", info).decode(errors="replace").splitlines()
        return {name: value for name, _, value in (line.partition(":") for line in lines) if value}

    async def reset(self) -> None:
        """See `Connection.reset`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(RedisError, OSError):
                await _close_now(connection)


class ClusterConnection:
    """Connections to all nodes of a Cluster; redis-py knows which node has a key."""

    def __init__(self, cluster: RedisCluster) -> None:
        self._cluster = cluster

    async def execute(self, commands: Sequence[Command]) -> list[Any]:
        """See `Connection.execute`."""
        with _as_connection_error():
            pipeline = self._cluster.pipeline()
            for command in commands:
                pipeline.execute_command(*command)
            replies = await pipeline.execute(raise_on_error=False)
        for reply in replies:
            if isinstance(reply, RedisError | OSError) and not isinstance(reply, ResponseError):
                raise reply
        return replies

    async def reset(self) -> None:
        """See `Connection.reset`. Slots may have moved, so their nodes are asked for anew."""
        with suppress(RedisError, OSError):
            await self._cluster.aclose()


async def _close_now(connection: AbstractConnection) -> None:
    """Close a connection at once, also one to a server that does not answer any more."""
    # redis-py only asks TLS to close, which waits half a minute for the server's reply.
    writer = cast("asyncio.StreamWriter | None", cast("Any", connection)._writer)
    await connection.disconnect(nowait=True)
    if writer is not None:
        writer.transport.abort()


def _check_files(shown: str, options: Mapping[str, object]) -> None:
    """Check that the certificates' files exist, which redis-py reads only when it connects.

    Raises:
        SetupError: One does not.
    """
    for name in _FILES & options.keys():
        if not Path(str(options[name])).is_file():
            raise SetupError(f"journal URL {shown!r}: {name}={options[name]} is no file")


@contextmanager
def _as_connection_error() -> Generator[None]:
    """Raise redis-py's own error for a Cluster that cannot be reached as a lost connection."""
    try:
        yield
    except RedisClusterException as error:
        raise RedisConnectionError(str(error)) from error

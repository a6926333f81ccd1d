"""Redis URLs: where the servers are, and which of their keys are the journal's."""

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from headway.errors import SetupError

PREFIX = "headway:"
"""The prefix of the journal's keys, unless the URL names another."""

BUCKETS = 16
"""Buckets that streams are dealt to: the most nodes of a Cluster that they can be spread over. Each
listing asks all of them."""

FORMS = (
    "write redis://host:6379/0, redis+cluster://host:6379,host:6379 or "
    "redis+sentinel://host:26379,host:26379/service/0 (rediss for TLS)"
)

Kind = Literal["single", "cluster", "sentinel"]
_KINDS: dict[str, Kind] = {"": "single", "cluster": "cluster", "sentinel": "sentinel"}


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A journal in Redis, by its URL."""

    kind: Kind
    shown: str
    """The URL as messages may show it: without user, password and options."""
    base: str
    """A URL of the first server, as redis-py takes it, with user, password and options."""
    hosts: tuple[tuple[str, int], ...]
    service: str
    """The name of the service that the Sentinels watch."""
    prefix: str
    buckets: int


def parse_redis_url(url: str) -> RedisAddress:
    """Return the address that a URL names.

    Raises:
        SetupError: The URL is malformed; the text does not repeat what may be a password.
    """
    scheme, _, rest = url.partition("://")
    tls, _, kind = scheme.partition("+")
    head, _, query = rest.partition("?")
    authority, slash, path = head.partition("/")
    user, at, hosts = authority.rpartition("@")
    shown = f"{scheme}://{hosts}{slash}{path}"
    options = dict(parse_qsl(query, keep_blank_values=True))
    prefix = options.pop("prefix", PREFIX)
    buckets = options.pop("buckets", str(BUCKETS))
    if not rest or kind not in _KINDS:
        raise SetupError(f"journal URL {shown!r} names no Redis; {FORMS}")
    if re.search(r"[{}]", prefix) or not prefix:
        raise SetupError(f"journal URL {shown!r}: prefix={prefix!r} must be a word without braces")
    if not buckets.isdecimal() or not 1 <= int(buckets) <= 4096:
        raise SetupError(f"journal URL {shown!r}: buckets={buckets!r} is no number up to 4096")
    service = ""
    if _KINDS[kind] == "sentinel":
        service, _, path = path.partition("/")
        if not service:
            raise SetupError(
                f"journal URL {shown!r} names no service to ask a Sentinel for; {FORMS}"
            )
    elif _KINDS[kind] == "cluster" and path not in ("", "0"):
        raise SetupError(f"journal URL {shown!r}: a Cluster has no database but 0")
    addresses = (
        tuple(_parse_hosts(hosts, 26379 if service else 6379, shown)) if tls != "unix" else ()
    )
    first = f"{addresses[0][0]}:{addresses[0][1]}" if addresses else hosts
    query_part = f"?{urlencode(options)}" if options else ""
    base = f"{tls}://{user}{at}{first}/{path}{query_part}"
    return RedisAddress(
        _KINDS[kind], shown, base, addresses, unquote(service), prefix, int(buckets)
    )


def _parse_hosts(text: str, port: int, shown: str) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for part in text.split(","):
        try:
            at = urlsplit(f"//{part}")
            host, given = at.hostname, at.port
        except ValueError:
            host, given = None, None
        if not host:
            raise SetupError(f"journal URL {shown!r}: {part!r} is no host and port; {FORMS}")
        name = f"[{host}]" if ":" in host else host
        found.append((name, given or port))
    return found


def without_secrets(url: str) -> str:
    """Return a journal's URL as messages may show it: without user, password and options."""
    head = url.partition("?")[0]
    scheme, slashes, rest = head.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{authority.rpartition('@')[2]}{slash}{path}"

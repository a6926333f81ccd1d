"""Redis's refusals in the words of whoever has to act, and the check of a server at the start."""

import re
from collections.abc import Mapping

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ResponseError,
)

from headway.errors import JournalError, JournalUnavailable, SetupError, StreamDamaged
from headway.log_lines import quiet_logger

logger = quiet_logger(__name__)

OLDEST_SERVER = (6, 2)

REFUSED_CODES = {
    "WRONGPASS": "takes no such user or password; correct the URL",
    "NOAUTH": "wants a password; write redis://user:password@host",
    "NOPERM": "does not let this user do that; allow it all commands, on the keys and channels "
    "that begin with the prefix",
    "OOM": "is full (maxmemory); give it more, or have the journal keep less (keep.max_bytes)",
    "READONLY": "is a read-only replica; name the primary",
    "MISCONF": "takes no writes because it cannot save to its disk; see its log",
    "NOREPLICAS": "takes no writes because too few replicas follow it (min-replicas-to-write)",
    "LOADING": "is still loading its data",
    "MASTERDOWN": "is a replica that has lost its primary",
    "CLUSTERDOWN": "is a Cluster of which a part is down",
    "TRYAGAIN": "is a Cluster that is being rearranged",
    "BUSY": "is busy with a script of another program",
    "MOVED": "is a node of a Cluster; write redis+cluster://",
    "CROSSSLOT": "is a Cluster, and this is an error of Headway's",
    "SENTINELAUTH": "has Sentinels that take no such user or password; write "
    "?sentinel_username= and ?sentinel_password=",
    "CERTIFICATE_VERIFY_FAILED": "shows a certificate that is not trusted; write "
    "?ssl_ca_certs=/path/to/ca.pem with whoever signed it, and the host that it is for",
}
PASSING_CODES = {"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY"}
"""Refusals that may be over in a moment, so that the call is tried again at once."""

_SETUP = {
    "WRONGPASS", "NOAUTH", "NOPERM", "READONLY", "MOVED", "CROSSSLOT", "SENTINELAUTH",
    "CERTIFICATE_VERIFY_FAILED",
}  # fmt: skip
_REASON = re.compile(r"certificate verify failed: ([^(]+?)\.? \(_ssl")
_CODE = re.compile(rf"\b({'|'.join(REFUSED_CODES)})\b")
_CLASSES: dict[str, str] = {
    "ReadOnlyError": "READONLY",
    "OutOfMemoryError": "OOM",
    "NoPermissionError": "NOPERM",
    "MovedError": "MOVED",
    "ClusterDownError": "CLUSTERDOWN",
    "TryAgainError": "TRYAGAIN",
    "MasterDownError": "MASTERDOWN",
}


def code_of(error: Exception) -> str:
    """Return the key of `REFUSED_CODES` that an error stands for, or ''."""
    if isinstance(error, BusyLoadingError):
        return "LOADING"
    if isinstance(error, AuthenticationError | AuthorizationError):
        return "NOAUTH" if "required" in str(error).lower() else "WRONGPASS"
    found = _CODE.search(str(error))
    return _CLASSES.get(type(error).__name__) or (found[1] if found else "")


def text_of(error: Exception) -> str:
    """Return redis-py's text without the options of connections, which may hold secrets."""
    return str(error).partition(" : <")[0]


def is_foreign_data(error: BaseException | None) -> bool:
    """Return whether a script failed because a stream's keys hold what Headway did not write."""
    if not isinstance(error, ResponseError) or code_of(error):
        return False
    return "script" in str(error) or "WRONGTYPE" in str(error)


def explain_error(
    shown: str, error: Exception, *, opening: bool = False
) -> SetupError | JournalError:
    """Return the error to raise for one of redis-py: what is wrong, and what to do."""
    code = code_of(error)
    if is_foreign_data(error) and not opening:
        return StreamDamaged(f"journal {shown} has keys that are not Headway's: {text_of(error)}")
    reason = _REASON.search(str(error))
    said = f"{code}: {reason[1]}" if reason else code
    what = f"{REFUSED_CODES[code]} ({said})" if code else f"cannot be used: {text_of(error)}"
    text = f"journal {shown} {what}"
    return SetupError(text) if opening and code in _SETUP else JournalUnavailable(text)


def check_server(shown: str, facts: Mapping[str, str]) -> None:
    """Refuse a Redis that cannot keep a journal; warn of one that may lose entries.

    Raises:
        SetupError: It is too old, or a replica.
    """
    if not facts:
        logger.warning("journal %s: this user may not see INFO, so nothing was checked", shown)
        return
    version = facts.get("redis_version", "0")
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST_SERVER:
        raise SetupError(f"journal {shown} is Redis {version}; 6.2 or newer is needed, or Valkey")
    if facts.get("role") == "slave":
        raise SetupError(f"journal {shown} {REFUSED_CODES['READONLY']}")
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and facts.get("maxmemory", "0") != "0":
        logger.warning(
            "journal %s may throw entries away when its memory is full (maxmemory-policy %s), "
            "results that clients have not read among them; set it to noeviction",
            shown, policy,
        )  # fmt: skip
    if facts.get("aof_enabled") == "0":
        logger.warning(
            "journal %s does not write to disk what it is told (appendonly no): when Redis itself "
            "restarts, what it had not saved is gone; set appendonly yes",
            shown,
        )

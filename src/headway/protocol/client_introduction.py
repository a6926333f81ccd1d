"""Bounds for what is kept of a client's description of itself, and of its subscriptions.

A request is read up to `max_body`, which is meant for arguments. A session, or a request that lasts
as long as its reader, must keep much less of it: there are very many of them. Texts that only
inform are cut. A value that cannot be cut without changing its meaning is refused.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, cast

import msgspec
from mcp_types import CLIENT_CAPABILITIES_META_KEY, CLIENT_INFO_META_KEY
from mcp_types.jsonrpc import INVALID_PARAMS, INVALID_REQUEST

from headway.errors import ProtocolError
from headway.protocol.jsonrpc_message import Message, make_message
from headway.protocol.methods import LISTEN

LONGEST_TEXT: Final = 1024
"""Characters of each text in `clientInfo`; the version of the protocol may have a sixteenth."""

LONGEST_NAME: Final = 100
"""Characters of a client's name, and of its version, where people are shown them."""

LONGEST_URI: Final = 2048
"""Characters of a URI or task id that is subscribed to; as many as browsers allow in a URL."""

LONGEST_NAMES: Final = 256 * 1024
"""Characters of all names in one `subscriptions/listen`."""

_LISTS: Final = ("toolsListChanged", "promptsListChanged", "resourcesListChanged")
_NAMES: Final = ("taskIds", "resourceSubscriptions")


def introduction_of(message: Message, most: int) -> Message:
    """Return an `initialize` with only the parts that are kept, and its `_meta`, which is not kept.

    Raises:
        ProtocolError: The capabilities have more than `most` bytes.
    """
    params = dict(message.params or {})
    names = ("capabilities", "clientInfo", "_meta")
    kept = {name: params[name] for name in names if name in params}
    if "protocolVersion" in params:
        kept["protocolVersion"] = _cut_version(params["protocolVersion"])
    if "capabilities" in kept:
        check_capabilities(kept["capabilities"], most)
    if "clientInfo" in kept:
        kept["clientInfo"] = cut_info(kept["clientInfo"], most)
    return _with_params(message, kept)


def _cut_version(version: object) -> object:
    """Return a protocol version, cut; a text that is no version is refused later."""
    if isinstance(version, str):
        return version[: LONGEST_TEXT // 16]
    return [] if isinstance(version, list | dict) else version


def introduction_of_envelope(message: Message, most_bytes: int, most_names: int) -> Message:
    """Return a request of 2026-07-28 with only the parts that are kept while it is handled.

    Raises:
        ProtocolError: Its capabilities have more than `most_bytes` bytes, or it subscribes to more
            than `most_names` names.
    """
    if message.method != LISTEN and len(msgspec.json.encode(message.meta)) <= min(
        LONGEST_TEXT, most_bytes
    ):
        return message  # no text in it is long, as in nearly all
    meta = dict(message.meta)
    if CLIENT_CAPABILITIES_META_KEY in meta:
        check_capabilities(meta[CLIENT_CAPABILITIES_META_KEY], most_bytes)
    if CLIENT_INFO_META_KEY in meta:
        meta[CLIENT_INFO_META_KEY] = cut_info(meta[CLIENT_INFO_META_KEY], most_bytes)
    if message.method == LISTEN:
        return _bound_listener(message, meta, most_bytes, most_names)
    if meta == message.meta:
        return message
    return _with_params(message, {**(message.params or {}), "_meta": meta})


def check_capabilities(capabilities: object, most: int) -> None:
    """Refuse capabilities of more than `most` bytes: cutting them would change their meaning.

    Raises:
        ProtocolError: They have more (400).
    """
    size = len(msgspec.json.encode(capabilities))
    if size > most:
        text = f"The client's capabilities have {size} bytes; {most} are accepted (max_client)"
        raise ProtocolError(INVALID_REQUEST, text, limit="max_client")


def cut_info(info: object, most: int) -> object:
    """Return a `clientInfo` with its texts cut; over `most` bytes of it only name and version."""
    cut = _cut_texts(info)
    if not isinstance(cut, dict) or len(msgspec.json.encode(cut)) <= most:
        return cast("object", cut)
    known = cast("dict[str, object]", cut)
    return {name: known[name] for name in ("name", "version") if name in known}


def name_of_client(info: object) -> str:
    """Return name and version of a `clientInfo` as people write them; empty where it has none."""
    if not isinstance(info, Mapping):
        return ""
    known = cast("Mapping[str, object]", info)
    texts = (known.get("name"), known.get("version"))
    return " ".join(text[:LONGEST_NAME] for text in texts if isinstance(text, str) and text)


@lru_cache(maxsize=1000)
def name_of_introduced(params: bytes) -> str:
    """Return name and version of a client from its `initialize` params, as a session keeps them."""
    try:
        return name_of_client(msgspec.json.decode(params, type=dict[str, object]).get("clientInfo"))
    except msgspec.DecodeError:  # no object: a journal may hold anything
        return ""


def check_names(names: list[object], most: int) -> None:
    """Refuse more than `most` names to subscribe to, and names longer than `LONGEST_URI`.

    Raises:
        ProtocolError: There are more, or one is longer (400).
    """
    if len(names) > most:
        raise ProtocolError(
            INVALID_PARAMS,
            f"{len(names)} resources and tasks to hear of; {most} are accepted "
            "(max_subscriptions): subscribe to what is needed, or in several requests",
            limit="max_subscriptions",
        )
    texts = [name for name in names if isinstance(name, str)]
    for text in texts:
        check_uri(text)
    size = sum(map(len, texts))
    if size > LONGEST_NAMES:
        text = f"Names of {size} characters to hear of; {LONGEST_NAMES} are accepted together"
        raise ProtocolError(INVALID_PARAMS, text)


def check_uri(uri: str) -> None:
    """Refuse a name to subscribe to that is longer than `LONGEST_URI` characters.

    Raises:
        ProtocolError: It is (400).
    """
    if len(uri) > LONGEST_URI:
        text = f"A URI of {len(uri)} characters cannot be subscribed to; {LONGEST_URI} are accepted"
        raise ProtocolError(INVALID_PARAMS, text)


def _bound_listener(
    message: Message, meta: dict[str, Any], most_bytes: int, most_names: int
) -> Message:
    """Return a `subscriptions/listen` with only what its long life needs."""
    wanted = (message.params or {}).get("notifications")
    if isinstance(wanted, dict):
        asked = cast("dict[str, object]", wanted)
        lists = [cast("list[object]", asked[n]) for n in _NAMES if isinstance(asked.get(n), list)]
        check_names([name for names in lists for name in names], most_names)
        wanted = {name: asked[name] for name in (*_LISTS, *_NAMES) if name in asked}
    if len(msgspec.json.encode(meta)) > 2 * most_bytes:
        text = f"The _meta of a listener may have {2 * most_bytes} bytes (max_client)"
        raise ProtocolError(INVALID_PARAMS, text, limit="max_client")
    params: dict[str, Any] = {"_meta": meta}
    return _with_params(message, params if wanted is None else {**params, "notifications": wanted})


def _with_params(message: Message, params: dict[str, Any]) -> Message:
    body: dict[str, Any] = {"jsonrpc": "2.0", "method": message.method, "params": params}
    if message.id is not None:
        body["id"] = message.id
    return make_message(body, message.method or "", message.id, params)


def _cut_texts(value: object) -> object:
    if isinstance(value, str):
        return value[:LONGEST_TEXT]
    if isinstance(value, Mapping):
        items = cast("Mapping[str, object]", value).items()
        return {name[:LONGEST_TEXT]: _cut_texts(item) for name, item in items}
    if isinstance(value, list):
        return [_cut_texts(item) for item in cast("list[object]", value)]
    return value

"""The first entry of a run: what was asked, and for people, by whom.

Nothing is decided by what is for people here. Values of arguments are not among it, and no text is
longer than a person reads: a client may call a tool by any name. Of a name that was cut no policy
says anything, so the scopes that its tool needed are stored besides (`engine/tool_access.py`).
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from headway.events import Accepted
from headway.jsonable import without_surrogates
from headway.protocol.methods import TOOL_CALL
from headway.protocol.run_for_people import cut_name

if TYPE_CHECKING:
    from headway.engine.request import Request

MOST_ARGUMENTS: Final = 32
"""Arguments whose names are kept: a client may send any number."""

LONGEST_ARGUMENT: Final = 100
"""Characters of a name."""


def accepted_event(request: "Request", server: str, scopes: Sequence[str] = ()) -> Accepted:
    """Return the first event of a request's run.

    `server` is the name of the server, `scopes` those that are stored with the run.
    """
    return Accepted(
        request.method,
        None if request.target is None else cut_name(request.target),
        request.owner,
        request.follows or "",
        cut_name(request.caller),
        cut_name(request.client_name),
        server,
        _argument_names(request) if request.method == TOOL_CALL else [],
        list(scopes),
    )


def _argument_names(request: "Request") -> list[str]:
    body: Mapping[str, Any] = request.context.body
    if not isinstance(body.get("params"), dict):
        return []
    params: Mapping[str, Any] = body["params"]
    if not isinstance(params.get("arguments"), dict):
        return []
    arguments: Mapping[str, Any] = params["arguments"]
    names = [name[:LONGEST_ARGUMENT] for name in islice(arguments, MOST_ARGUMENTS)]
    return [name if name.isascii() else str(without_surrogates(name)) for name in names]

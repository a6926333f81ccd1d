"""Scopes of tools: who may call a tool, and who may have what its runs said.

Every request passes `check_call` before anything of it begins, and whatever is handed out of
another run passes `visible_of` or `may_see`. So a token that may not call a tool gets none of its
results either, by whatever name it asks for them: an idempotency key, a task, a handle, a resource,
an event id.

The scopes that count are those of the policy at this moment. Where the policy does not name the
tool (any more), those count that were stored with the run when it was accepted.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from headway.engine.request import Request, RequestInfo, ToolOptions
from headway.errors import Challenge, EntriesTrimmed, ProtocolError, StreamDamaged, StreamNotFound
from headway.events import Accepted
from headway.journal import Journal
from headway.log_lines import quiet_logger
from headway.protocol.continue_run_tool import CONTINUE_RUN
from headway.protocol.methods import TOOL_CALL, kind_of
from headway.run_state import view_of

logger = quiet_logger(__name__)

Scopes = frozenset[str]
"""The scopes of a token; None in its place: nobody is checked, as over stdio."""

REFUSED_CODE = -32600
"""JSON-RPC code of a refusal for a missing scope, as of any request that is not to be sent."""


@dataclass(frozen=True, slots=True)
class ScopePolicy:
    """The scopes that each tool needs. What the operator says of a tool, says all of it."""

    operators: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Of `[auth.tools]`, by the tool's name."""
    authors: Mapping[str, ToolOptions] = field(default_factory=dict[str, ToolOptions])
    own_check: Callable[[str], Awaitable[bool]] | None = None
    """Returns whether the served object's own rules give the current caller a tool."""
    alias_check: Callable[[str], bool] | None = None
    """Returns whether a name may be another name of any tool; None: tools have one name."""

    def needed_for(self, tool: str) -> tuple[str, ...] | None:
        """Return the scopes that a tool needs; None where nobody says anything of it."""
        if tool in self.operators:
            return self.operators[tool]
        if self.alias_check is not None and self.alias_check(tool):
            return tuple(sorted(self.all_scopes()))  # nobody can tell of which one
        options = self.authors.get(tool)
        return None if options is None else options.scopes

    def all_scopes(self) -> Scopes:
        """Return all scopes that any tool needs."""
        authors = (options.scopes or () for options in self.authors.values())
        return frozenset[str]().union(*self.operators.values(), *authors)


class ToolAccess:
    """Decides by the scopes of callers, for one journal and one policy."""

    def __init__(self, journal: Journal, policy: ScopePolicy) -> None:
        self._journal = journal
        self._policy = policy

    def may_call(self, tool: str, held: Scopes | None) -> bool:
        """Return whether a caller with these scopes may call a tool."""
        return held is None or held.issuperset(self._policy.needed_for(tool) or ())

    def is_alias(self, tool: str) -> bool:
        """Return whether a name may be another name of any tool."""
        check = self._policy.alias_check
        return check is not None and check(tool)

    def check_call(self, method: str | None, tool: str | None, held: Scopes | None) -> None:
        """Check that a caller with these scopes may send a request.

        Raises:
            ProtocolError: It is a call of a tool that needs more (403).
        """
        if held is None or method != TOOL_CALL or tool is None:
            return
        if not self.may_call(tool, held):
            raise self._refusal(tool, self._policy.needed_for(tool) or (), held)

    def check_joined(self, running: RequestInfo, held: Scopes | None) -> None:
        """Check that a caller may have the answer to a request which it sends while it is answered.

        Raises:
            ProtocolError: It was sent with a token that may see more (403).
        """
        needed = self.stored_scopes(running)
        if held is not None and not held.issuperset(needed):
            raise self._refusal(running.name, needed, held)

    async def check_repeated(self, stream: str, tool: str, held: Scopes | None) -> None:
        """Check that a caller may have the run in `stream`, whose idempotency key it has sent.

        Raises:
            ProtocolError: It may not (403).
            JournalError: The journal cannot be read.
        """
        if not await self.may_see(stream, held):
            accepted = await self._read_accepted(stream)
            raise self._refusal(tool, () if accepted is None else accepted.scopes, held)

    async def may_see(self, stream: str, held: Scopes | None) -> bool:
        """Return whether a caller with these scopes may have what the run in `stream` said.

        Raises:
            JournalError: The journal cannot be read.
        """
        if held is None:
            return True
        accepted = await self._read_accepted(stream)
        if accepted is None:  # nobody can tell whose it was: its entries are gone
            return held.issuperset(self._policy.all_scopes())
        tool = accepted.target if accepted.method == TOOL_CALL else None
        needed = None if tool is None else self._policy.needed_for(tool)
        if not held.issuperset(accepted.scopes if needed is None else needed):
            return False
        return tool is None or tool == CONTINUE_RUN or await self._passes_own_check(tool)

    async def _passes_own_check(self, tool: str) -> bool:
        if self._policy.own_check is None:
            return True
        try:
            return await self._policy.own_check(tool)
        except Exception:
            logger.exception("a result of %s is given to nobody: its own check failed", tool)
            return False

    async def visible_of(self, streams: Iterable[str], held: Scopes | None) -> set[str]:
        """Return those of these runs that a caller with these scopes may have.

        Raises:
            JournalError: The journal cannot be read.
        """
        names = list(streams)
        # All at once: a storage that is a round trip away is asked once.
        seen = await asyncio.gather(*(self.may_see(name, held) for name in names))
        return {name for name, is_seen in zip(names, seen, strict=True) if is_seen}

    def stored_scopes(self, request: Request | RequestInfo) -> list[str]:
        """Return the scopes that are stored with the run of a request.

        The answer of a request that asks for other runs has what its caller may see, so it is for
        those who may see as much.
        """
        if request.method == TOOL_CALL and request.target != CONTINUE_RUN:
            return sorted(self._policy.needed_for(request.target or "") or ())
        if not request.scopes or not _shows_runs(request):
            return []
        if self._policy.own_check is not None:  # which of them it looks at, nobody can tell
            return sorted(request.scopes)
        return sorted(request.scopes & self._policy.all_scopes())

    def _refusal(self, tool: str, needed: Collection[str], held: Scopes | None) -> ProtocolError:
        """Return the refusal of a request for a tool.

        It names the scopes that the token has besides, as far as tools need them: a client asks for
        all that is named, and would else lose what it has.
        """
        has = held or frozenset()
        missing = " ".join(sorted(set(needed) - has))
        if not missing:  # by the served object's own rules, which do not say what they want
            return ProtocolError(REFUSED_CODE, f"{tool} is not for this access token", status=403)
        besides = sorted(has & self._policy.all_scopes() - set(needed))
        return ProtocolError(
            REFUSED_CODE,
            f"{tool} needs the scope {missing}, which the access token does not have",
            status=403,
            data={"error": "insufficient_scope", "scope": " ".join(sorted(set(needed)))},
            challenge=Challenge("insufficient_scope", (*needed, *besides)),
        )

    async def _read_accepted(self, stream: str) -> Accepted | None:
        """Return the first entry of a run, or what a long run says of it later; None: neither.

        A damaged stream harms no other one: whoever reads it is told so.
        """
        try:
            entries = await self._journal.read(stream, limit=1)
        except EntriesTrimmed:
            try:
                entries = await self._journal.read_all_kept(stream)
            except StreamNotFound:
                return None
        except (StreamNotFound, StreamDamaged):
            return None
        about = view_of(entries).about
        return None if about is None else about.accepted


def _shows_runs(request: Request | RequestInfo) -> bool:
    return request.target == CONTINUE_RUN or kind_of(request.method).shows_runs

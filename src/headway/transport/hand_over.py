"""Hand-over: answering a request early while its run goes on.

A call that ends inside its window is answered as if this module did not exist. For one that does
not, the table in `protocol/hand_over_policy.py` says which form its answer has. From then on the
client reads the run from the journal, with the handle that it got:

    request ──▶ run ──▶ the window is over ──▶ handle or task in the answer
                 │                                      │ tasks/get, continue_run
                 └──────▶ goes on ──▶ journal ◀─────────┘
"""

from collections.abc import Callable, Mapping
from functools import partial
from math import inf
from typing import Any, Protocol, cast

from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
)
from mcp_types import SERVER_INFO_META_KEY as SERVER_INFO

from headway.background import BackgroundTasks
from headway.client_profiles import Profile, profile_of
from headway.engine import Engine, Run, RunContext, ToolOptions, handed_over_event, read_inbox
from headway.errors import JournalError, ProtocolError, journal_away
from headway.events import Claimed, Entry, HandedOver, encode_json
from headway.log_lines import quiet_logger
from headway.protocol import render, tasks_2025
from headway.protocol.continue_run_tool import CONTINUE_RUN, handle_result
from headway.protocol.hand_over_policy import (
    DEFAULT_WINDOW,
    ClientTraits,
    HandOverForm,
    Windows,
    form_for,
)
from headway.protocol.jsonrpc_message import Message, has_envelope
from headway.protocol.methods import kind_of
from headway.protocol.tasks import EXTENSION, declares_tasks, handed_over_in, task_handle
from headway.run_state import State
from headway.stream_names import handle_stream, run_id_of
from headway.transport.sdk import Sdk
from headway.transport.sessions.session import Session
from headway.transport.stream_pages import End
from headway.transport.subscriptions.task_updates import subscribed_tasks

logger = quiet_logger(__name__)

_NEEDS: Mapping[str, str] = {
    "elicitation/create": "elicitation",
    "sampling/createMessage": "sampling",
    "roots/list": "roots",
}
"""The capability that a client has to declare to be asked."""


class EarlyResponse(Protocol):
    """An answer that can end before the run does."""

    end: End | None

    @property
    def opened(self) -> float:
        """The moment in which its request came, as the server's clock has it."""
        ...

    def conclude_with(self, message: bytes) -> None:
        """End with this JSON-RPC message, unless it has ended."""
        ...

    def stop(self, end: End) -> None:
        """End without a message."""
        ...

    def act_at_expiry(self, act: Callable[[], object]) -> None:
        """Call `act` when the token of the request expires, if the client cannot resume."""
        ...

    def expire(self) -> None:
        """End because the token of the request has expired."""
        ...


class HandOver:
    """Hands runs over, each in the way that its request shows."""

    def __init__(self, engine: Engine, sdk: Sdk) -> None:
        self._engine = engine
        self._sdk = sdk
        self._tasks = BackgroundTasks("hand-overs")

    # What a request shows

    def may_be_task(self, message: Message) -> bool:
        """Return whether this request of 2026-07-28 may be answered with a task.

        Raises:
            ProtocolError: The tool must become a task, and its client does not know tasks (-32021).
        """
        is_call = kind_of(message.method).can_hand_over
        knows_tasks = declares_tasks(message.meta.get(CLIENT_CAPABILITIES_META_KEY))
        options = self._engine.services.options_of(message.target)
        needs_tasks = is_call and options.needs_task
        if (needs_tasks or subscribed_tasks(message)) and not knows_tasks:
            raise ProtocolError(
                MISSING_REQUIRED_CLIENT_CAPABILITY,
                f"This needs the {EXTENSION} extension, which the request does not declare",
                data={"requiredCapabilities": {"extensions": {EXTENSION: {}}}},
            )
        return is_call and knows_tasks and self._windows_of(options).effective != inf

    def traits_of_request(self, message: Message, *, is_told: bool) -> ClientTraits:
        """Return what a request of 2026-07-28 shows of its client.

        `is_told`: progress and logs are part of the answer.
        """
        meta = message.meta
        knows_tasks = declares_tasks(meta.get(CLIENT_CAPABILITIES_META_KEY))
        match meta.get(CLIENT_INFO_META_KEY):
            case {"name": str(name), "version": str(version)}:
                profile = self._find_profile(name, version)
            case _:
                profile = self._find_profile("", "")
        return ClientTraits(profile, knows_tasks, is_told and message.token is not None)

    def traits_in_session(
        self, session: Session, message: Message, *, is_told: bool, can_reconnect: bool = False
    ) -> ClientTraits:
        """Return what a request of a session shows of its client, as `traits_of_request`."""
        has_token = is_told and message.token is not None
        return ClientTraits(self.profile_of_session(session), False, has_token, can_reconnect)

    def profile_of_session(self, session: Session) -> Profile:
        """Return what is known of the client of a session."""
        params = session.connection.client_params
        info = None if params is None else params.client_info
        return (
            self._find_profile(info.name, info.version)
            if info is not None
            else self._find_profile("", "")
        )

    def _find_profile(self, name: str, version: str) -> Profile:
        return profile_of(name, version, self._engine.settings.profiles)

    # Offering

    def offer_hand_over(
        self, run: Run, answer: EarlyResponse, message: Message, shown: ClientTraits
    ) -> None:
        """Let the answer end when the window is over, or a task's run asks something."""
        request = run.request
        if not request.kind.can_hand_over:
            return
        if request.target == CONTINUE_RUN and self._engine.services.offers_handles:
            # It waits for another run and hands that one over itself.
            server = self._engine.settings.hand_over or DEFAULT_WINDOW
            _, run.hooks.window = form_for(shown._replace(knows_tasks=False), Windows(None, server))
            return
        way, window = form_for(shown, self._windows_of(request.options))
        if way is HandOverForm.STAY:
            return

        def hand_over() -> None:
            run.hooks.drop_offers()
            if way is HandOverForm.RECONNECT:
                answer.stop(End.CLOSED)
            else:
                self._start_hand_over(run, answer, message, way)

        answer.act_at_expiry(partial(self._hand_over_at_expiry, run, answer, message, way))

        if way is HandOverForm.TASK:
            run.hooks.on_question = hand_over
            if request.options.hand_over == 0 and not request.follows:
                # The author's own `at once` begins with the author's function. Questions that the
                # server puts before that are part of the answer to this request.
                run.hooks.on_function_begins = hand_over
                return
            if run.events.state is State.INPUT_REQUIRED:
                hand_over()  # it asked before it was offered
                return
        clock = self._engine.clock
        timer = clock.call_later(max(answer.opened + window - clock.now(), 0.0), hand_over)
        run.on_end(timer.cancel)

    async def make_task(self, run: Run, message: Message) -> bytes:
        """Return the response that makes the call a task of 2025-11-25, as the request asks.

        Raises:
            ProtocolError: The journal cannot be written, or the caller has as many handles as it
                may (503); the run is cancelled.
        """
        try:
            return await self._handle_response(run, message, None)
        except ProtocolError:
            run.cancel("server", "there is no room for its handle")
            raise
        except JournalError as error:
            logger.warning("run %s became no task: %s", run.reference, error)
            run.cancel("server", "the task could not be stored")
            raise journal_away() from None

    def reconnect_after(self, profile: Profile, token: object) -> float:
        """Return the seconds until a resumed stream is closed early again; inf: never."""
        shown = ClientTraits(profile, False, token is not None, can_reconnect=True)
        way, window = form_for(shown, Windows(None, self._engine.settings.hand_over))
        return window if way is HandOverForm.RECONNECT else inf

    def _windows_of(self, options: ToolOptions) -> Windows:
        return Windows(options.hand_over, self._engine.settings.hand_over)

    def _hand_over_at_expiry(
        self, run: Run, answer: EarlyResponse, message: Message, way: HandOverForm
    ) -> None:
        """Hand a run over whose client has to come back with another token, or end its answer."""
        run.hooks.drop_offers()

        async def hand_over() -> None:
            await self._hand_over(run, answer, message, way)
            answer.expire()  # in case there was no room for a handle

        self._tasks.start(hand_over())

    def _start_hand_over(
        self, run: Run, answer: EarlyResponse, message: Message, way: HandOverForm
    ) -> None:
        self._tasks.start(self._hand_over(run, answer, message, way))

    # Handing over

    async def _hand_over(
        self, run: Run, answer: EarlyResponse, message: Message, way: HandOverForm
    ) -> None:
        if answer.end is not None:
            return
        try:
            response = await self._handle_response(run, message, way)
        except (JournalError, ProtocolError) as error:
            logger.warning("run %s stays with its request: %s", run.reference, error)
            return
        answer.conclude_with(response)
        if run.request.follows:
            run.cancel("server", "its client has a handle to what it follows")

    async def _handle_response(self, run: Run, message: Message, way: HandOverForm | None) -> bytes:
        """Return the response with the handle. From now on the run can be found by it.

        Raises:
            ProtocolError: There is no room for one more handle (503).
            JournalError: The journal cannot be written.
        """
        stream = run.request.follows or run.stream
        await self._engine.services.names.check_room(run.request.principal)
        # The run and its inbox are durable before the handle names them, and the handle before the
        # client gets it: a client never holds one that a crash could make unknown.
        handed = await self._store_hand_over(run, stream)
        await self._claim_handle(run.request.principal, stream)
        entries = await run.journal.read_all_kept(stream)
        result = self._handle_result(run_id_of(stream), entries, handed, way)
        if has_envelope(message.body):
            result.setdefault("resultType", "complete")
            result.setdefault("_meta", {})[SERVER_INFO] = self._sdk.server.server_info_stamp
        run.hooks.answered = lambda: "handle" if way is HandOverForm.HANDLE else "task"
        run.hooks.on_handed_over()
        self._engine.counters.handed_over += 1
        return render.escape_lines(render.response_bytes(message.id, encode_json(result)))

    async def _store_hand_over(self, run: Run, stream: str) -> HandedOver:
        """Make the run durable and reachable, and return the event that says since when."""
        if run.request.follows or run.hooks.has_handle:
            run.hooks.has_handle = True
            inbox, entries = (
                await read_inbox(run.journal, stream),
                await run.journal.read_all_kept(stream),
            )
            return handed_over_in(inbox, entries, run.journal.retention.ttl)
        run.hooks.has_handle = True
        handed = handed_over_event(run, self._engine.services)
        await self._engine.services.inboxes.open(run, handed)
        return handed

    async def _claim_handle(self, principal: str, stream: str) -> None:
        """Make the run's id a key to it: a session may end before the work does."""
        run_id = run_id_of(stream)
        key = handle_stream(principal, run_id)
        await self._engine.services.names.claim_name(key, Claimed(stream))
        # The run may have ended while its handle was stored: then nothing releases the handle
        # later, so it is done here.
        local = self._engine.runs.get(run_id)
        if local is not None:
            self._engine.services.names.release_with(local, key)
        elif (head := await self._engine.journal.head(stream)) is None or head.ended:
            await self._engine.services.names.release_name(key)

    def _handle_result(
        self, run_id: str, entries: list[Entry], handed: HandedOver, way: HandOverForm | None
    ) -> dict[str, Any]:
        now = self._engine.clock.time()
        if way is HandOverForm.HANDLE:
            return handle_result(run_id, entries, 0)
        if way is HandOverForm.TASK:
            return task_handle(run_id, entries, handed, now)
        return tasks_2025.created_task(run_id, entries, handed, now)


def may_begin_early(run: Run, context: RunContext) -> bool:
    """Return whether a run may begin before its answer is open: that one is not to end first."""
    request = run.request
    if request.kind.is_endless or request.target == CONTINUE_RUN:
        return False
    if type(context) is TaskContext:
        windows = Windows(request.options.hand_over, run.services.settings.hand_over)
        return windows.effective != 0
    return type(context) is RunContext


class TaskContext(RunContext):
    """The context of a request that may become a task: its client can be asked, in `tasks/get`."""

    __slots__ = ("_declared",)

    def __init__(
        self,
        message: Message,
        transport: TransportContext,
        metadata: ServerMessageMetadata,
    ) -> None:
        super().__init__(message.id, transport, metadata, message.token, message.body)
        declared: object = message.meta.get(CLIENT_CAPABILITIES_META_KEY)
        self._declared = cast("dict[str, object]", declared if isinstance(declared, dict) else {})

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        """Put the question into the task and wait for `tasks/update`.

        Raises:
            MCPError: The client did not declare that it can answer, or nobody did in time.
            NoBackChannelError: The run has ended.
        """
        if self.run is None or not self.can_send_request:
            raise NoBackChannelError(method)
        need = _NEEDS.get(method)
        if need is not None and need not in self._declared:
            raise MCPError(
                MISSING_REQUIRED_CLIENT_CAPABILITY,
                f"The client cannot be asked: it does not declare {need!r}",
                {"requiredCapabilities": {need: {}}},
            )
        return await super().send_raw_request(method, params, opts)

"""The sweep of sessions: those that nobody uses any more are found and closed, again and again.

In a journal that dies with the process, what this process knows decides. In one that outlives it,
another process may still serve a session: so this one only forgets it, and the age of its last
entry in the journal decides. That is why a session in use gives a sign of life there.
"""

from typing import TYPE_CHECKING

from headway.clock import Timer
from headway.events import Alive
from headway.transport.sessions.expiry import close_abandoned
from headway.transport.sessions.session_eviction import READY_WITHIN

if TYPE_CHECKING:
    from headway.transport.sessions.registry import Sessions

SWEEP_SHARE = 10
"""Idle sessions are looked for this many times within `session_ttl`."""

SIGN_SHARE = 2
"""A session in use says so in a journal that outlives the process this often within
`session_ttl`."""

ABANDONED = 1 + 1 / SIGN_SHARE + 1 / SWEEP_SHARE
"""Times `session_ttl` without an entry: by then every process would have noticed some use."""


class SessionSweep:
    """Looks for sessions that are idle, abandoned or were never used."""

    def __init__(self, sessions: "Sessions") -> None:
        self._sessions = sessions
        self._idle_timer: Timer | None = None
        self._unready_timer: Timer | None = None
        self._is_looking = False
        self.expired = 0
        """Sessions that were let go of because nobody used them."""

    def start(self) -> None:
        """Begin to look."""
        self._schedule_sweep()
        self._look_for_unready()

    def stop(self) -> None:
        """Look no more."""
        for timer in (self._idle_timer, self._unready_timer):
            if timer is not None:
                timer.cancel()

    def _look_for_unready(self) -> None:
        """Forget the sessions whose clients opened them and never sent anything more."""
        sessions = self._sessions
        for session in sessions.room.not_ready(sessions.clock.now() - READY_WITHIN):
            self.expired += 1
            sessions.evict_session(session, "its client was never ready")
        self._unready_timer = sessions.clock.call_later(READY_WITHIN / 2, self._look_for_unready)

    def _schedule_sweep(self) -> None:
        """Look for the sessions that dead processes left, and for idle ones a little later."""
        sessions = self._sessions
        if sessions.journal.is_durable and not self._is_looking:
            sessions.spawn_task(self._close_abandoned())
        self._idle_timer = sessions.clock.call_later(
            sessions.settings.session_ttl / SWEEP_SHARE, self._sweep_idle
        )

    def _sweep_idle(self) -> None:
        sessions = self._sessions
        now, ttl = sessions.clock.now(), sessions.settings.session_ttl
        sessions.store_ends_again()
        for session in sessions.known:
            is_idle = not session.is_in_use and session.usage.used < now - ttl
            if not sessions.journal.is_durable:
                if is_idle:
                    self.expired += 1
                    sessions.spawn_task(sessions.close_session(session, "idle"))
            elif is_idle:
                # Another process may still serve it: its age in the journal decides.
                self.expired += 1
                sessions.forget_session(session)
            elif session.usage.signed < now - ttl / SIGN_SHARE:
                session.usage.signed = now
                session.record_event(Alive(sessions.broadcasts.process))
        self._schedule_sweep()

    async def _close_abandoned(self) -> None:
        """End the sessions that no process has seen any use of."""
        self._is_looking = True  # one pass may take longer than the time to the next
        sessions = self._sessions
        try:
            known = {session.stream for session in sessions.known}
            limit = sessions.clock.time() - ABANDONED * sessions.settings.session_ttl
            await close_abandoned(sessions.journal, limit, known)
        finally:
            self._is_looking = False

"""The parts that all transports of one served object share."""

from dataclasses import dataclass

from headway.engine import Engine
from headway.transport.hand_over import HandOver
from headway.transport.sdk import Sdk
from headway.transport.sessions.registry import Sessions
from headway.transport.subscriptions.run_updates import RunSubscriptions


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The served object as all transports see it: HTTP and pipes share these parts.

    Settings, clock and journal are the engine's.
    """

    sdk: Sdk
    """Executes requests with the author's server."""
    engine: Engine
    """Makes each request a run."""
    sessions: Sessions
    """The 2025 sessions of this process."""
    subscriptions: RunSubscriptions
    """Notifies the subscribers of a run that there is more of it."""
    hand_over: HandOver
    """Answers a request before its run has ended."""

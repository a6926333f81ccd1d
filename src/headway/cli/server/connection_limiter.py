"""The state that all connections of a server share, and the answers to refused ones."""

from typing import Final

from headway.counters import Counters
from headway.log_lines import quiet_logger
from headway.repeated_log_lines import RecordRefusal, RefusalLog, limited_logger
from headway.settings import Settings
from headway.transport.http.origin_check import Origins, answer_headers
from headway.transport.http.unfinished_requests import RETRY_AFTER, UnfinishedRequests

logger = quiet_logger(__name__)

RESERVED: Final = 100
"""Descriptors that connections leave to the journal, to tools and to their programs."""

WARN_EVERY: Final = 60.0
"""Seconds between warnings that connections are turned away."""

LATER: Final = f"retry-after: {RETRY_AFTER}\r\n"


class ConnectionLimiter:
    """The limits of a server's connections, their number, and the requests that arrive on them."""

    def __init__(
        self,
        settings: Settings,
        counters: Counters | None = None,
        arrivals: UnfinishedRequests | None = None,
        record_refusal: RecordRefusal | None = None,
    ) -> None:
        self.settings = settings
        self.counters = counters or Counters()
        self.arrivals = arrivals or UnfinishedRequests(settings.max_arriving, self.counters)
        self.log = limited_logger(__name__)
        self.refusals = RefusalLog(record_refusal)
        self._origins = Origins(settings.allowed_origins)
        self.most = min(settings.max_connections, max(1, _max_descriptors() - RESERVED))
        self.counters.connections = self.counters.connections or 0
        self.counters.most_connections += self.most
        self.is_leaving = False
        """Whether each answer asks its client to come back on another connection."""
        self._warned = float("-inf")

    def cors(self, headers: list[tuple[bytes, bytes]]) -> str:
        """Return the header lines by which the browser of an admitted page may read a refusal."""
        said = dict(reversed(headers))
        origin, host = said.get(b"origin", b""), said.get(b"host", b"")
        if not self._origins.admit(origin.decode("latin-1"), host.decode("latin-1")):
            return ""
        lines = answer_headers(origin)
        return "".join(f"{name.decode()}: {value.decode('latin-1')}\r\n" for name, value in lines)

    def refuse_connection(self, now: float, address: str | None = None) -> bytes:
        """Return the answer to a connection from `address` that is one too many, and count it."""
        if now - self._warned >= WARN_EVERY:
            self._warned = now
            logger.warning("%d connections are open; more are turned away", self.most)
        self.counters.count_refusal(503, "max_connections")
        text = f"The server has as many connections as it takes ({self.most}); try again later"
        self.refusals.record(503, "max_connections", text, address)
        return refusal("503 Service Unavailable", text, LATER)


def refusal(status: str, text: str, headers: str = "") -> bytes:
    """Return an answer that says why a connection is refused, and that it is closed."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\n{headers}"
    return f"{head}content-length: {len(text)}\r\nconnection: close\r\n\r\n{text}".encode()


def _max_descriptors() -> int:
    """Return how many files and sockets this process may have open."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return 2**31
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if soft == resource.RLIM_INFINITY else soft

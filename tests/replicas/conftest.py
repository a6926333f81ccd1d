"""The fixtures of all tests with replicas."""

from tests.journal.conftest import new_redis_url, redis_program, redis_url
from tests.replicas.fleet import journal
from tests.wire.conftest import _quick_ticks

__all__ = ["_quick_ticks", "journal", "new_redis_url", "redis_program", "redis_url"]

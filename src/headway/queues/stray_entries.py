"""Stray entries of a queue: an entry that cannot be decoded is logged and dropped.

Any program that can write to the Redis can put anything into a queue, if only by using the same
names by accident. Docket decodes an entry outside of any `try`: a missing field ends the worker,
and every worker that is started after it. Here such an entry becomes a task of a generation that
Docket does not know. Docket takes it for superseded, so it acknowledges and deletes the entry.
"""

import sys
from datetime import UTC, datetime
from typing import Any, Final, Self

from docket import Docket, Execution
from redis.exceptions import RedisClusterException, RedisError

from headway.errors import SetupError
from headway.log_lines import quiet_logger

logger = quiet_logger(__name__)

WORKER: Final = "docket.worker"
"""The module in which Docket decodes entries, by the name `Execution`."""

SHOWN: Final = 200
"""Characters that are logged of an error in an entry."""


class _Entry(Execution):
    """A task that can be made of every entry, whatever is in it."""

    @classmethod
    async def from_message(
        cls, docket: Docket, message: Any, *args: Any, message_id: Any = None, **options: Any
    ) -> Self:
        """Decode an entry as Docket does; one that cannot be decoded becomes a superseded task.

        Raises:
            RedisError, OSError: Redis is away.
        """
        try:
            return await super().from_message(
                docket, message, *args, message_id=message_id, **options
            )
        except (RedisError, RedisClusterException, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever is in it, it must not end a worker
            why = ascii(f"{type(error).__name__}: {error}")[1 : SHOWN + 1]
            logger.error("an entry of %s is no run and is dropped: %s", docket.name, why)
        return cls(
            docket,
            _do_nothing,
            (),
            {},
            f"dropped:{_text_of(message_id)}",
            datetime.now(UTC),
            1,
            generation=1,
            message_id=message_id,
        )


async def _do_nothing() -> None:
    """Do nothing, if Docket should ever execute a dropped entry."""


def _text_of(message_id: object) -> str:
    return message_id.decode() if isinstance(message_id, bytes) else str(message_id)


def guard_entries() -> None:
    """Make Docket's workers in this process drop entries that they cannot decode.

    Raises:
        SetupError: Docket is not as this version of Headway knows it.
    """
    module = sys.modules.get(WORKER)
    if module is None or not hasattr(module, "Execution"):
        raise SetupError(
            f"this version of Docket has no {WORKER}.Execution; install the one that "
            "headway[workers] asks for"
        )
    setattr(module, "Execution", _Entry)  # noqa: B010 - a class is replaced

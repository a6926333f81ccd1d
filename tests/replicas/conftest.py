"""The journals that replicas share."""

from tests.kit.fleet import journal

__all__ = ["journal"]

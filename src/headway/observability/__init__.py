"""Metrics and probes: a process as its operator sees it."""

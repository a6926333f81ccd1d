"""Serving: sockets, connections, event loop, signals and an orderly end."""

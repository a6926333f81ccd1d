"""Transports: bytes to protocol and back, over HTTP and pipes."""

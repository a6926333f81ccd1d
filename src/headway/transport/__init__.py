"""Bytes to protocol and back: the only modules that know HTTP."""

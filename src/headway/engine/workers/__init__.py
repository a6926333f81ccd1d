"""Runs that one process accepts and another one executes."""

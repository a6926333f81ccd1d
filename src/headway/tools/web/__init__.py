"""Asking hosts that the operator allows: checked addresses, bounded answers."""

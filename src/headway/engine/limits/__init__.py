"""How many runs execute at once, and who waits."""

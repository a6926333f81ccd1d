"""The display of a call at a terminal."""

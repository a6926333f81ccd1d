"""The log lines and prints of a serving process."""

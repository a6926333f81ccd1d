"""What becomes of runs when a process stops or dies."""

"""What other processes, and later requests, ask of a run."""

"""What an operator can see of a process: metrics and probes."""

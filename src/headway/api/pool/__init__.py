"""Python functions executed in other processes."""

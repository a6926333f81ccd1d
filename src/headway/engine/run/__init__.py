"""One execution in this process: its state, its output, its questions and its end."""

"""The `sqlite:` journal: one file, shared by the processes of a machine."""

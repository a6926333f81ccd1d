"""The `redis:` journal: shared by the processes of many machines."""

"""The servers that are measured. Each module is a script: `python -m bench.servers.NAME PORT …`."""

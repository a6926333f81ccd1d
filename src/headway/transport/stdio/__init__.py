"""MCP over a pipe: one client, both eras."""

"""MCP as pure functions: eras as a table, what a body is, and entries rendered for the wire."""

"""MCP as pure functions: eras as a table, bodies read, and entries rendered for the wire."""

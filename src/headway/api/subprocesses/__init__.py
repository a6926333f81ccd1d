"""Other programs as part of a tool."""

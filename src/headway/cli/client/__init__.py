"""The other end: connecting to a server, and the arguments of a tool."""

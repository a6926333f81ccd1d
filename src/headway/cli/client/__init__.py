"""The client of `call` and `tools`: connecting to a server, and the arguments of a tool."""

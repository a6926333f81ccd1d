"""Notifications of changes to clients: of lists, runs and tasks."""

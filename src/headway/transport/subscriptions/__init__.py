"""Telling clients what has changed: lists, runs and tasks."""

"""Journals as the commands for operators see them: which there are, and what their runs say."""

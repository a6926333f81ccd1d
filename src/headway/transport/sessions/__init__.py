"""The sessions of the 2025 revisions."""

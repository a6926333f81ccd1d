"""The dashboard: what runs, and what became of it, as pages for a browser on this machine."""

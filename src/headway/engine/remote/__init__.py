"""Runs seen from elsewhere: inboxes, mirrors, and answers from other processes."""

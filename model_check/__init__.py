"""Searches the states that our orders, a server's, and the messages between them can reach: see docs/reliability.md."""

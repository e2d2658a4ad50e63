"""Compares the journal with the broker's own record: an export of Sierra Chart's Trade Activity Log."""

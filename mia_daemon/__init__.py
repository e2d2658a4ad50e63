"""A trading daemon for index futures with Sierra Chart."""

__version__ = "0.1.0"

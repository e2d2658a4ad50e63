"""Task 1: market events in, from a DTC server, from the files Sierra Chart writes, or from a recording."""

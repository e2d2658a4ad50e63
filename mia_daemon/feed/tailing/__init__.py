"""Following the files that Sierra Chart writes: notice, read on, put trades and depth in order of time."""

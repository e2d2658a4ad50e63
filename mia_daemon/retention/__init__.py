"""What is kept of recordings, logs and journals, and for how long. Runs in a process of its own."""

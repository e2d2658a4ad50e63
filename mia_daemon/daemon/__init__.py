"""The process: checks before a start, the resources of a run, commands, reports and shutdown."""

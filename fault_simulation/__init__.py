"""Deterministic simulation: the real trading side of the daemon against two venues, in virtual time.

The first venue is the daemon's own simulator; the second shares no code with it and has habits drawn from the seed.

Everything that differs from run to run (the order of callbacks, the network, the disk, kills) is drawn from one seed,
so a violation found with a seed is reproduced by it. See `python -m fault_simulation --help` and docs/reliability.md.
"""

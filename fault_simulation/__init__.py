"""Deterministic simulation: the real trading side of the daemon against the real simulator, in virtual time.

Everything that differs from run to run (the order of callbacks, the network, the disk, kills) is drawn from one seed,
so a seed that finds something finds it again. `python -m fault_simulation --help` runs it; docs/reliability.md says
what for.
"""

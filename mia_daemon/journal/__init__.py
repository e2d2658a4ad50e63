"""The journal, the record of what was decided and traded: one process writes it, any number may read it."""

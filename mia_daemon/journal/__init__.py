"""The journal, the truth about what was traded: written by one, read by many, checked against itself."""

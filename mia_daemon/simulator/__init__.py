"""A stand-in for Sierra Chart: a DTC server, a matching engine and a seeded market behind it."""

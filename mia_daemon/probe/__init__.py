"""`mia-daemon probe`: how a DTC server really behaves, found out with orders of a simulated account."""

"""The DTC line: a connection that keeps itself alive, TLS or not; serves prices and orders alike."""

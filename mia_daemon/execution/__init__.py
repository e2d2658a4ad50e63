"""From decisions to orders and from fills to the account: one state, and the actors that work on it. No event loop."""

"""Where orders are sent: one interface, two implementations: simulation (paper) and Sierra Chart (sierra)."""

"""Who takes the orders: one interface, filled by simulation (paper) or by Sierra Chart (sierra)."""

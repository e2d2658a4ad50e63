"""Risk checks: what may be traded and when. Each denial is a code with the facts behind it."""

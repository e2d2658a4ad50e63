"""Task 4: decisions, orders, fills and profit."""

"""Task 3: what the models say of a feature window."""

"""Task 4: what was decided, ordered, filled and earned."""

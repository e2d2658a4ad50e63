"""The exchange's trading days as plain arrays."""

"""What may be traded and when: pure checks, each denial a code with the facts behind it."""

"""What is traded, which contract of it, and when: facts about products, months and sessions."""

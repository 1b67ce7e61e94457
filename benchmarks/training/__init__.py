"""Training: our loop against the one that a user would write."""

"""Is a dataset sound? Every row is tried in sandboxes, and its text is read; knows no pytest."""

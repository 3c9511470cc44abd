"""Options: one table of them, from text to value, and the resolved settings."""

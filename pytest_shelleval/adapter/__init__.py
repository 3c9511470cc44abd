"""The pytest side: hooks, items, fixtures and reports around the core."""

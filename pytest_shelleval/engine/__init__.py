"""Runs phase 2: several executions at a time."""

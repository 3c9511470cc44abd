"""Phase 2: how many executions at a time, and where."""

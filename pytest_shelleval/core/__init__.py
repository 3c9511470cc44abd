"""The evaluation itself: tasks, commands, execution, results, statistics. Knows no pytest."""

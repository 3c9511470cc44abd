"""The evaluation itself: tasks, commands, execution, results, statistics. Does not depend on pytest."""

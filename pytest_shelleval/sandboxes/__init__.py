"""Where commands run. Does not depend on pytest."""

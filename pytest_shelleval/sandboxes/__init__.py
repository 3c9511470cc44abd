"""Where commands run. Knows no pytest."""

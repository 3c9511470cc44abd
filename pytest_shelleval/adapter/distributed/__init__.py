"""Workers of pytest-xdist on other machines: what they are given, and what becomes of lost ones."""

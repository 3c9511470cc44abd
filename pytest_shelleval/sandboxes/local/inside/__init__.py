"""What runs in a sandbox: its first process, the shells, and what they did."""

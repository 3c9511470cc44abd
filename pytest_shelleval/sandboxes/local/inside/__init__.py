"""What runs in a sandbox: its first process and the shells; and the report on their effects."""

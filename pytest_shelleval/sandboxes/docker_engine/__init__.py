"""The Docker sandbox: a container per task, through Docker's SDK."""

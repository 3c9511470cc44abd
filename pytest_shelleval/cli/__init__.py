"""The command ``shelleval``: one module a sub-command."""

"""The local sandbox: Linux namespaces from a pre-forked process, no root, no Docker."""

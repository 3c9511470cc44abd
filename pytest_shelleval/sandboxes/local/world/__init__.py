"""The parts of a sandbox: namespaces, ids, system call filter, file system."""

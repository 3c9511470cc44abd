"""What a sandbox is made of: namespaces, ids, system calls, file system."""

"""Constants that every kind of sandbox shares; imports nothing, because each sandbox loads it."""

START_DIRECTORY = "/home/shellm"
"""HOME of the sandbox's root and the directory in which every shell starts."""
DEFAULT_IMAGE = "deathbyknowledge/shellm-sandbox:latest"
"""The public image, for kinds that need one."""

"""The version: the package, its metadata and what runs record take it from here."""

__version__ = "0.1.0"

"""The server's side of Banip: what the media carry, and what an auditor reads."""

__version__ = "0.1.0"

"""Trains learned face-photo obfuscators by distribution discrepancy maximisation, and attacks them."""

__version__ = "0.1.0"

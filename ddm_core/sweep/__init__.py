"""The search for better settings of one obfuscator: `ddm sweep` (docs/sweep.md)."""

"""The benchmark: every obfuscator against every attacker, cell by cell, with the pipeline's own stages."""

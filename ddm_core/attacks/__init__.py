"""Everything that tries to recognise a person in a hidden photo."""

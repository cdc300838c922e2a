"""Everything that hides a photo: the classical baselines, DDM and keyed DDM."""

"""One KFP component a stage: a signature and one call into `ddm_core.stages`."""

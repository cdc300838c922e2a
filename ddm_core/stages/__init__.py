"""One module a pipeline stage, each with one function `run`."""

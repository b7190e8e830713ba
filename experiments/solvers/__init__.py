"""Every sampler on exact denoisers: orders of convergence, and error against the number of evaluations."""

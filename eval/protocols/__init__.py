"""Published protocols: found data, a run of evaluations, and ours beside the published numbers."""

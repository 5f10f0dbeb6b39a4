"""Models in and out: what a file is, and files for others."""

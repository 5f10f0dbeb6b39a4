"""The catalog of benchmark data sets: what is known of each, and how it is opened."""

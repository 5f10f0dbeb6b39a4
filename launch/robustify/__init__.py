"""From the name of a CLIP to a robust one, its number beside the base's, and everything that is needed to use it."""

"""Tasks: what an encoder is judged by."""

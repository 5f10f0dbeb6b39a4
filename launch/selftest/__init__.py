"""``robustclip selftest``: whether a training really survives here, on this machine and with these libraries."""

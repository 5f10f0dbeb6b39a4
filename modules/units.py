"""Units of settings, read off the annotations of components and recipes; imports no torch."""

from __future__ import annotations

from typing import Annotated

PIXELS = "in [0, 1] pixels"
Pixels = Annotated[float, PIXELS]
"""A radius or step in [0, 1] pixels; a person may give it in 1/255 (``configs.schema.ThreatConfig``)."""

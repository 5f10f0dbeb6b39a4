"""Which format a file of weights is in, and the towers in it; a format a file."""

from modules.encoders.formats.base import Facts, Format, Towers
from modules.encoders.formats.weights import ORDER, Weights, format_of, open_weights

__all__ = ["ORDER", "Facts", "Format", "Towers", "Weights", "format_of", "open_weights"]

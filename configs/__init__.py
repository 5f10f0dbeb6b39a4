"""Recipes in; checked values and built objects out."""

from pathlib import Path
from runpy import run_path

run_path(str(Path(__file__).parents[1] / "data" / "siblings.py"))["require_siblings"](__name__, __file__)

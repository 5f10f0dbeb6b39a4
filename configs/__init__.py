"""Recipes in; checked values and built objects out."""

"""Victims that are as robust as they look, a file for each kind."""

from eval.traps.genuine import answers, defenses, networks, threats

__all__ = ["answers", "defenses", "networks", "threats"]

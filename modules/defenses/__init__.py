"""Defences: encoders around an encoder, and the views an attacker can have of them."""

from modules.defenses.base import Defense, Undefended
from modules.defenses.clipure_cos import CLIPureCos
from modules.defenses.random_noise import RandomNoise
from modules.defenses.routes import Route, route, undefended
from modules.defenses.ttc import TTC
from modules.views import View

__all__ = [
    "TTC",
    "CLIPureCos",
    "Defense",
    "RandomNoise",
    "Route",
    "Undefended",
    "View",
    "route",
    "undefended",
]

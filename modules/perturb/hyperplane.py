"""The nearest point of a hyperplane within the box of pixels, for every norm: the inner problem of FAB."""

from __future__ import annotations

import torch
from torch import Tensor

from modules.choices import check_choice
from modules.perturb.threat import Norm


def step_to_hyperplane(x: Tensor, normal: Tensor, gap: Tensor, norm: Norm) -> Tensor:
    """The shortest perturbation [B, C, H, W] that takes each image onto its hyperplane and keeps it in the box.

    Solves min ||d|| subject to <normal, d> = -gap and 0 <= x + d <= 1 exactly, up to rounding (the projection in
    arXiv:1907.02044).  Where the hyperplane misses the box, the step ends in the corner of the box that comes closest.

    Written as a journey, every pixel travels towards the plane by at least 0 and at most its room in the box.  Under
    linf all pixels travel equally far, under l2 in proportion to the normal, and stop where their room ends; under l1
    the pixels of the largest normal travel all of their room, one after the other.

    Args:
        x: images in [0, 1].
        normal: [B, C, H, W] of the hyperplanes; pixels where it is zero stay.
        gap: [B] value of the linear function at x, less its value on the hyperplane; any sign.
        norm: what is shortest.
    """
    check_choice("norm", norm, Norm)
    flat, slope = x.flatten(1), normal.flatten(1)
    scale = slope.abs().amax(dim=1).clamp_min(torch.finfo(x.dtype).tiny)
    rate, need = slope.abs() / scale[:, None], gap.abs() / scale
    down = slope * gap.sign()[:, None] > 0
    room = torch.where(down, flat, 1 - flat) * (rate > 0)
    if norm == "l1":
        travel = _steepest_first(rate, room, need)
    else:
        travel = _all_at_once(rate, room, need, rate if norm == "l2" else torch.ones_like(rate))
    return torch.where(down, -travel, travel).view_as(x)


def _all_at_once(rate: Tensor, room: Tensor, need: Tensor, pace: Tensor) -> Tensor:
    """min(level * pace, room) [B, D] with the level at which sum(rate * travel) meets the need [B].

    The sum is concave in the level, so Newton's steps from zero never overshoot; each finds at least one more pixel
    without room, or the answer.  A handful are enough, where sorting the pixels would cost far more.
    """
    tiny, huge = torch.finfo(rate.dtype).tiny, torch.finfo(rate.dtype).max
    level, full = torch.zeros_like(need), room <= 0
    while True:
        missing = need - (rate * room).masked_fill(~full, 0).sum(dim=1)
        growth = (rate * pace).masked_fill(full, 0).sum(dim=1)
        level = torch.maximum(level, missing / growth.clamp_min(tiny)).clamp_max(huge)
        ahead = level[:, None] * pace
        reached = full | (ahead >= room)
        if torch.equal(reached, full):
            return torch.where(full, room, ahead)
        full = reached


def _steepest_first(rate: Tensor, room: Tensor, need: Tensor) -> Tensor:
    """Travel [B, D] that meets the need [B] with the largest rates first, the last of them partly."""
    order = rate.argsort(dim=1, descending=True)
    gain = (rate * room).gather(1, order)
    missing = need[:, None] - (gain.cumsum(dim=1) - gain)
    share = (missing / gain.clamp_min(torch.finfo(rate.dtype).tiny)).clamp(0.0, 1.0)
    return room * torch.zeros_like(share).scatter(1, order, share)

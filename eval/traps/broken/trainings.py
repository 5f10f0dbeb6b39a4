"""Trainings that hide the gradient of a network by themselves."""

from __future__ import annotations

from eval.traps.case import Case, broken
from eval.traps.nets import SATURATING, Net, trained
from modules.perturb.threat import Threat

OVERFITTED = Net(training="one_step", epochs=30)
OVERFITTED_PERCEPTRON = Net(body="mlp", training="one_step", eps=8 / 255, epochs=30, layer="none")
SQUEEZED = Net(training="squeezed", epochs=12)
DISTILLED = Net(training="distilled", epochs=12)


@broken("masked training")
def overfitted_to_one_step() -> Case:
    """Trained by FGSM until catastrophic overfitting: one step fools few, many steps fool all."""
    return Case(lambda: trained(OVERFITTED), searchable=True, threat=Threat("linf", 6 / 255))


@broken("masked training")
def overfitted_perceptron() -> Case:
    """A perceptron that was trained by FGSM at linf 8/255 until catastrophic overfitting, evaluated at 4/255."""
    return Case(lambda: trained(OVERFITTED_PERCEPTRON), searchable=True)


@broken("masked training")
def overfitted_perceptron_at_8() -> Case:
    """A perceptron that was trained by FGSM at linf 8/255 until catastrophic overfitting, evaluated there."""
    return Case(lambda: trained(OVERFITTED_PERCEPTRON), searchable=True, threat=Threat("linf", 8 / 255))


@broken("masked training")
def squeezed_gradients() -> Case:
    """Trained with a penalty on input gradients of a saturated cross-entropy."""
    net = trained(SQUEEZED)
    return Case(lambda: lambda x: SATURATING * net(x), surrogates=[SQUEEZED])


@broken("masked training")
def squeezed_gradients_sharpened() -> Case:
    """A network of squeezed gradients whose logits are a thousand times as large, at linf 2/255."""
    net = trained(SQUEEZED)
    return Case(lambda: lambda x: 1e3 * net(x), surrogates=[SQUEEZED], threat=Threat("linf", 2 / 255))


@broken("masked training")
def distilled() -> Case:
    """Distilled at temperature 100 and asked at temperature 1: logits of hundreds, no gradient of the cross-entropy."""
    return Case(lambda: trained(DISTILLED), surrogates=[DISTILLED])


@broken("masked training")
def distilled_at_1() -> Case:
    """Distilled at temperature 100, at linf 1/255."""
    return Case(lambda: trained(DISTILLED), surrogates=[DISTILLED], threat=Threat("linf", 1 / 255))

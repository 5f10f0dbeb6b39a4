"""Architectures and trainings, as they are."""

from __future__ import annotations

from eval.traps.case import LINF4, Case, honest
from eval.traps.nets import FRAGILE, ROBUST, Net, trained
from eval.traps.worlds import World
from modules.perturb.threat import Threat

VIVID = World(contrast=0.9, paper=0.05)
BLACK_AND_WHITE = World(contrast=0.98, paper=0.01, binary=True)


def of_net(net: Net, threat: Threat = LINF4) -> Case:
    """The case of a network as it is."""
    return Case(lambda: trained(net), threat=threat, world=net.world, searchable=True)


@honest("network")
def convolutional() -> Case:
    """A convolutional network of standard training."""
    return of_net(FRAGILE)


@honest("network")
def convolutional_robust() -> Case:
    """A convolutional network of adversarial training."""
    return of_net(ROBUST)


@honest("network")
def convolutional_robust_in_l2() -> Case:
    """A convolutional network of adversarial training in an l2 ball, evaluated in one."""
    return of_net(Net(training="adversarial", norm="l2", eps=0.25, epochs=15), Threat("l2", 0.1))


@honest("network")
def perceptron() -> Case:
    """A multilayer perceptron of standard training."""
    return of_net(Net(body="mlp", layer="none"))


@honest("network")
def perceptron_robust() -> Case:
    """A multilayer perceptron of adversarial training, with dropout in training."""
    return of_net(Net(body="mlp", training="adversarial", epochs=20, dropout=0.1), Threat("linf", 3 / 255))


@honest("network")
def transformer() -> Case:
    """A vision transformer of standard training."""
    return of_net(Net(body="vit", activation="gelu", epochs=15), Threat("linf", 1 / 255))


@honest("network")
def transformer_robust() -> Case:
    """A vision transformer of adversarial training."""
    net = Net(body="vit", activation="gelu", training="adversarial", eps=2 / 255, epochs=14)
    return of_net(net, Threat("linf", 2 / 255))


@honest("activation")
def gelu() -> Case:
    """GELU, adversarial training."""
    return of_net(Net(activation="gelu", training="adversarial", epochs=12))


@honest("activation")
def softplus() -> Case:
    """Softplus, adversarial training."""
    return of_net(Net(activation="softplus", training="adversarial", epochs=12))


@honest("activation")
def tanh() -> Case:
    """Tanh, standard training."""
    return of_net(Net(activation="tanh"), Threat("linf", 2 / 255))


@honest("normalization")
def layer_normalization() -> Case:
    """Layer normalization, adversarial training."""
    return of_net(Net(layer="layer", training="adversarial", epochs=12))


@honest("normalization")
def group_normalization() -> Case:
    """Group normalization, standard training."""
    return of_net(Net(layer="group"), Threat("linf", 1 / 255))


@honest("normalization")
def no_normalization() -> Case:
    """No normalization layers, adversarial training."""
    return of_net(Net(layer="none", training="adversarial", epochs=15))


@honest("training")
def robust_far_beyond() -> Case:
    """Black and white digits, adversarially trained at linf 0.3 and evaluated at 4/255."""
    return of_net(Net(world=BLACK_AND_WHITE, training="adversarial", eps=0.3, epochs=25, layer="none"))


@honest("training")
def robust_far_beyond_at_1() -> Case:
    """Full-contrast digits, adversarially trained at linf 0.1 and evaluated at 1/255."""
    return of_net(Net(world=VIVID, training="adversarial", eps=0.1, epochs=10), Threat("linf", 1 / 255))


@honest("training")
def vivid() -> Case:
    """Full-contrast digits, standard training, evaluated at 4/255, where few are fooled."""
    return of_net(Net(world=VIVID))


@honest("training")
def trained_under_noise() -> Case:
    """Trained under Gaussian noise of 8/255."""
    return of_net(Net(training="noisy", eps=8 / 255), Threat("l2", 0.1))


@honest("training")
def barely_trained() -> Case:
    """One epoch of training: a low clean accuracy."""
    return of_net(Net(epochs=1), Threat("linf", 1 / 255))


@honest("training")
def of_wrong_labels() -> Case:
    """Trained on labels of which 60 % are wrong."""
    return of_net(Net(world=World(wrong_labels=0.6), epochs=6), Threat("linf", 1 / 255))


@honest("classes")
def two_classes() -> Case:
    """Two classes, standard training."""
    return of_net(Net(world=World(classes=2)))


@honest("classes")
def three_classes() -> Case:
    """Three classes, adversarial training."""
    return of_net(Net(world=World(classes=3), training="adversarial", epochs=25))


@honest("classes")
def twenty_classes() -> Case:
    """Twenty classes, adversarial training."""
    return of_net(Net(world=World(classes=20), training="adversarial", eps=4 / 255, epochs=8), Threat("linf", 2 / 255))


@honest("training")
def larger_images() -> Case:
    """Images of 16 pixels a side, adversarial training."""
    return of_net(Net(world=World(side=16), training="adversarial", epochs=5))

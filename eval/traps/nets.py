"""Small networks, trained on demand in seconds with fixed seeds and kept in memory."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eval.traps.worlds import FAINT, World
from modules.perturb.threat import Norm, Threat, per_image

Body = Literal["conv", "mlp", "vit", "thermometer"]
Activation = Literal["relu", "gelu", "softplus", "tanh"]
Layer = Literal["batch", "layer", "group", "none"]
Training = Literal["standard", "adversarial", "one_step", "squeezed", "distilled", "noisy"]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "softplus": lambda: nn.Softplus(beta=5),
    "tanh": nn.Tanh,
}
SATURATING = 30.0  # factor of the logits that squeezed networks are trained with
LEVELS = 12  # of thermometer coding, over the range of the faint images


@dataclass(frozen=True)
class Net:
    """Architecture and training of a network.

    Attributes:
        body: ``conv``, ``mlp``, ``vit``, or ``thermometer``: a conv net that reads pixels as unary codes.
        training: ``standard``; ``adversarial`` by PGD; ``one_step`` by FGSM, long enough for catastrophic overfitting;
            ``squeezed`` with a penalty on input gradients; ``distilled`` at temperature 100
            (arXiv:1511.04508); ``noisy`` under Gaussian noise of standard deviation eps.
        activation: of every layer.
        layer: normalization; ``none`` for none.
        norm: of the ball of adversarial training.
        eps: its radius, in [0, 1] pixels.
        epochs: over the training images.
        seed: of weights and batches.
        dropout: share of hidden units, in training.
        world: the images.
    """

    body: Body = "conv"
    training: Training = "standard"
    activation: Activation = "relu"
    layer: Layer = "batch"
    norm: Norm = "linf"
    eps: float = 6 / 255
    epochs: int = 12
    seed: int = 0
    dropout: float = 0.0
    world: World = FAINT


FRAGILE = Net()
ROBUST = Net(training="adversarial", epochs=20)


def trained(net: Net = FRAGILE) -> nn.Module:
    """A fresh copy of the trained network, frozen: pixels [B, 3, H, W] -> logits [B, K]."""
    return copy.deepcopy(_trained(net))


def untrained(seed: int = 7, net: Net = FRAGILE) -> nn.Module:
    """A network with random weights, frozen."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _build(net).eval().requires_grad_(False)


@cache
def _trained(net: Net) -> nn.Module:
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), torch.inference_mode(False):
        torch.manual_seed(net.seed)
        model = _build(net)
        x, y = net.world.train()
        soft = F.softmax(_trained(FRAGILE)(x) / 2, dim=1) if net.training == "distilled" else None
        _fit(model, net, x, y, soft)
    return model.eval().requires_grad_(False)


def _fit(model: nn.Module, net: Net, x: Tensor, y: Tensor, soft: Tensor | None) -> None:
    batches = (len(x) + 99) // 100
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    rate = 2e-3 if net.body == "vit" else 6e-3
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=net.epochs * batches)
    for epoch in range(net.epochs):
        ramped = net.training == "adversarial"  # at full strength from the start some learn nothing at all
        strength = min(1.0, 2 * epoch / net.epochs) if ramped else 1.0
        for index in torch.randperm(len(x)).split(100):
            model.eval()
            x_train = _perturbed(model, net, x[index], y[index], strength)
            model.train()
            loss = _loss(model, net, x_train, y[index], None if soft is None else soft[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def _perturbed(model: nn.Module, net: Net, x: Tensor, y: Tensor, strength: float) -> Tensor:
    if net.training == "noisy":
        return x + net.eps * torch.randn_like(x)
    if net.training not in ("adversarial", "one_step"):
        return x
    steps = 5 if net.training == "adversarial" else 1
    threat = Threat(net.norm, strength * net.eps)
    step_size = threat.eps * (2.5 / steps if steps > 1 else 1)
    x_adv = x if steps == 1 else threat.confine(x, x + _random_start(threat, x))
    for _ in range(steps):
        x_adv = x_adv.detach().requires_grad_()
        (grad,) = torch.autograd.grad(F.cross_entropy(model(x_adv), y), x_adv)
        x_adv = threat.confine(x, x_adv.detach() + step_size * threat.steepest(grad))
    return x_adv.detach()


def _random_start(threat: Threat, x: Tensor) -> Tensor:
    delta = 2 * torch.rand_like(x) - 1
    return threat.eps * (delta if threat.norm == "linf" else delta / per_image(delta.flatten(1).norm(dim=1), delta))


def _loss(model: nn.Module, net: Net, x: Tensor, y: Tensor, soft: Tensor | None) -> Tensor:
    if soft is not None:
        return 100 * F.cross_entropy(model(x) / 100, soft)
    if net.training != "squeezed":
        return F.cross_entropy(model(x), y)
    leaf = x.clone().requires_grad_()
    logits = SATURATING * model(leaf)
    (grad,) = torch.autograd.grad(F.cross_entropy(logits, y, reduction="sum"), leaf, create_graph=True)
    return F.cross_entropy(logits, y) + 0.1 * grad.flatten(1).norm(dim=1).mean()


def _build(net: Net) -> nn.Module:
    if net.body == "vit":
        return Vit(net)
    activation, side, classes = ACTIVATIONS[net.activation], net.world.side, net.world.classes
    if net.body == "mlp":
        layers = [nn.Flatten(), nn.Linear(3 * side**2, 96), activation(), nn.Dropout(net.dropout), nn.Linear(96, 64)]
        return nn.Sequential(Normalize(net.world), *layers, activation(), nn.Linear(64, classes))
    channels, width = (3 * LEVELS, 16) if net.body == "thermometer" else (3, 16)
    read = Thermometer(net.world) if net.body == "thermometer" else Normalize(net.world)
    return nn.Sequential(
        read,
        nn.Conv2d(channels, width, 3, padding=1),
        _layer(net.layer, width, side),
        activation(),
        nn.AvgPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        _layer(net.layer, 2 * width, side // 2),
        activation(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(net.dropout),
        nn.Linear(2 * width * (side // 4) ** 2, 64),
        activation(),
        nn.Linear(64, classes),
    )


def _layer(kind: Layer, channels: int, side: int) -> nn.Module:
    made: dict[str, Callable[[], nn.Module]] = {
        "batch": lambda: nn.BatchNorm2d(channels),
        "layer": lambda: nn.LayerNorm([channels, side, side]),
        "group": lambda: nn.GroupNorm(4, channels),
        "none": nn.Identity,
    }
    return made[kind]()


class Normalize(nn.Module):
    """Pixels of a world, centered and scaled by its contrast."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.center, self.scale = world.paper + world.contrast / 2, world.contrast / 2

    def forward(self, x: Tensor) -> Tensor:
        """x [B, 3, H, W], about -1 to 1."""
        return (x - self.center) / self.scale


class Thermometer(nn.Module):
    """Unary codes of pixels (thermometer coding, ICLR 2018): zero gradient everywhere."""

    def __init__(self, world: World) -> None:
        super().__init__()
        ends = world.paper + 0.02 * world.contrast, world.paper + 0.98 * world.contrast
        self.register_buffer("levels", torch.linspace(*ends, LEVELS), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Codes [B, 3 * levels, H, W] of x [B, 3, H, W]."""
        return self.compare(x[:, :, None] - self.get_buffer("levels").view(-1, 1, 1)).flatten(1, 2)

    def compare(self, above: Tensor) -> Tensor:
        """1 where a pixel is above a level."""
        return (above > 0).float()


class Vit(nn.Module):
    """A vision transformer of two blocks over 2x2 patches."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        tokens = (net.world.side // 2) ** 2
        self.patches = nn.Sequential(Normalize(net.world), nn.Conv2d(3, 32, 2, stride=2), nn.Flatten(2))
        self.positions = nn.Parameter(0.1 * torch.randn(1, tokens, 32))
        self.blocks = nn.ModuleList([Block(ACTIVATIONS[net.activation]()) for _ in range(2)])
        self.head = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, net.world.classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, K] of x [B, 3, H, W]."""
        z = self.patches(x).transpose(1, 2) + self.positions
        for block in self.blocks:
            z = block(z)
        return self.head(z.mean(dim=1))


class Block(nn.Module):
    """Attention and a feed-forward layer, normalized before each."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(32), nn.LayerNorm(32)
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
        self.feed = nn.Sequential(nn.Linear(32, 64), activation, nn.Linear(64, 32))

    def forward(self, z: Tensor) -> Tensor:
        """Tokens [B, L, 32]."""
        q, k, v = self.qkv(self.first(z)).unflatten(2, (3, 2, 16)).permute(2, 0, 3, 1, 4)
        z = z + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return z + self.feed(self.second(z))

"""The work of a training on triplets: three pictures a sample, of which an attack passes some more often."""

from __future__ import annotations

from configs.schema import PerceptualConfig
from launch.forecast.work import Part, Work
from modules.counting import growth, imaginary, imagined, kept_bytes
from modules.encoders.clip import CLIPEncoder, load_clip
from modules.perceptual.low_rank import LowRankEncoder
from train.perceptual import training_around
from train.work import images, pass_flops, triplet_passes

_PICTURE = 110_000  # bytes, on average
_PICTURES = 3  # of a triplet


def perceptual_work(config: PerceptualConfig) -> Work:
    """What a triplet of a recipe costs.

    Raises:
        ValueError: no such model, or LoRA finds nothing in it to stand beside.
    """
    tower = bare_tower(config)
    module = training_around(config, tower).to("meta")
    passes, each = triplet_passes(module), pass_flops(module.encoder)
    parts = (
        Part("attack, forwards only", passes.forward, each.forward),
        Part("attack, forwards and gradient of the pixels", passes.gradient, each.gradient),
        Part("update, forwards and backwards", _PICTURES, each.update),
    )
    sizes = {wanted: 0 for wanted in (True, False)}
    for parameter in module.encoder.parameters():
        sizes[parameter.requires_grad] += parameter.numel()
    kept, once = _activations(config)
    return Work(
        unit="triplets",
        parts=tuple(part for part in parts if part.times),
        parameters=sizes[True],
        frozen=sizes[False],
        averaged=False,
        kept=kept,
        kept_once=once,
        sample_bytes=_PICTURES * _PICTURE,
        assumed="assumed, three pictures; --sample-kb says another",
        left_out="operations leave out what evaluates checkpoints",
        exported=sizes[False] if isinstance(module.encoder, LowRankEncoder) else None,
    )


def bare_tower(config: PerceptualConfig) -> CLIPEncoder:
    """The recipe's image tower, without weights or memory.

    Raises:
        ValueError: no such model.
    """
    model = config.model
    return load_clip(model.name, model.pretrained, image_size=model.image_size, weights=False).image.to("meta")


def _activations(config: PerceptualConfig) -> tuple[int, int]:
    """Bytes that a triplet, and that any batch, keeps in the update."""
    tower = bare_tower(config)
    with imagined(config.trainer.precision):
        module = training_around(config, imaginary(tower)).train()

        def kept(count: int) -> int:
            x = images(_PICTURES * count, tower.image_size).x
            return kept_bytes(lambda: module.encoder.encode_image(x), [module])

        return growth(kept)

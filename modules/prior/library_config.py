"""What a ``prior_config.json`` of DALLE2-pytorch says that the weights do not."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modules.choices import check_choice
from modules.prior.diffusion import Prediction
from modules.prior.loss import LossKind
from modules.prior.schedule import ScheduleKind

# Fields of the network that the weights show too, and what the release takes where they are left out.
_NETWORK_DEFAULTS: dict[str, Any] = {
    "dim": None,
    "depth": None,
    "dim_head": 64,
    "heads": 8,
    "ff_mult": 4,
    "num_time_embeds": 1,
    "num_image_embeds": 1,
    "num_text_embeds": 1,
    "norm_in": False,
    "norm_out": True,
    "final_proj": True,
    "normformer": False,
    "rotary_emb": True,
}


@dataclass(frozen=True)
class LibraryConfig:
    """Settings of a prior as the library's configuration file gives them.

    Attributes:
        prediction: what the network's answer means; None where there was no file.
        loss: distance in training.
        text_drop: share of training samples that lose the text.
        image_drop: share that lose the image.
        clamp: whether training put every estimate onto the sphere.
        schedule: kind of the noise schedule; None where there was no file.
        text_states: whether the network reads the states of the text tokens.
        self_cond: whether it reads an earlier estimate.
        network: what the file says of the network, under our names.
    """

    prediction: Prediction | None = None
    loss: LossKind = "l2"
    text_drop: float = 0.1
    image_drop: float = 0.1
    clamp: bool = False
    schedule: ScheduleKind | None = None
    text_states: bool = True
    self_cond: bool = False
    network: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("loss", self.loss, LossKind)
        if self.prediction is not None:
            check_choice("prediction", self.prediction, Prediction)
        if self.schedule is not None:
            check_choice("schedule", self.schedule, ScheduleKind)


def read_library_config(path: Path) -> LibraryConfig:
    """The settings in a file: the whole training configuration, or its ``prior`` part.

    Raises:
        ValueError: no file, no JSON, not such a configuration, or a value that is not supported.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"no configuration at {path}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    prior = content.get("prior", content) if isinstance(content, dict) else None
    if not isinstance(prior, dict) or not isinstance(net := prior.get("net"), dict):
        raise ValueError(f"{path} has no 'prior' with a 'net'; give the prior_config.json that lies beside the weights")
    loss, schedule = prior.get("loss_type", "l2"), prior.get("beta_schedule", "cosine")
    try:
        check_choice("loss_type", loss, LossKind)
        check_choice("beta_schedule", schedule, ScheduleKind)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    _check_scale(path, prior, net)
    drop = prior.get("cond_drop_prob", 0.0)
    return LibraryConfig(
        prediction="v" if prior.get("predict_v") else "x0" if prior.get("predict_x_start", True) else "eps",
        loss=loss,
        text_drop=_given(prior, "text_cond_drop_prob", drop),
        image_drop=_given(prior, "image_cond_drop_prob", drop),
        clamp=bool(prior.get("training_clamp_l2norm", False)),
        schedule=schedule,
        text_states=bool(prior.get("condition_on_text_encodings", True)),
        self_cond=bool(net.get("self_cond", False)),
        network=_network(net),
    )


def _network(net: dict[str, Any]) -> dict[str, Any]:
    said = {name: net.get(name, default) for name, default in _NETWORK_DEFAULTS.items()}
    said["rotary"] = said.pop("rotary_emb")
    if net.get("num_timesteps") is not None:
        said["num_timesteps"] = net["num_timesteps"]
    return {name: value for name, value in said.items() if value is not None}


def _given(table: dict[str, Any], name: str, default: Any) -> Any:
    value = table.get(name)
    return default if value is None else value


def _check_scale(path: Path, prior: dict[str, Any], net: dict[str, Any]) -> None:
    scale, dim = prior.get("image_embed_scale"), net.get("dim")
    if scale is not None and isinstance(dim, int) and abs(scale - dim**0.5) > 1e-3:
        raise ValueError(f"{path}: image_embed_scale {scale} is not the square root of dim {dim}; not supported")

"""A prior of ours from the tensors of DALLE2-pytorch's ``DiffusionPrior``, whatever release trained it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import torch
from torch import Tensor

from modules.choices import check_choice
from modules.prior.architecture import network_settings
from modules.prior.attention import AttentionKind
from modules.prior.convert_schedule import stored_schedule
from modules.prior.convert_source import Source, not_finite
from modules.prior.diffusion import DiffusionPrior, Prediction
from modules.prior.layouts import SELF_COND, Layout, Release, dotted, fitting, layout_of
from modules.prior.library_config import LibraryConfig
from modules.prior.network import PriorNetwork
from modules.prior.schedule import NoiseSchedule

_MAPPED = {"null_text_embed": "null_text_encodings"}  # of 0.23.0 to 1.8.x
_ROTARY_CACHE = re.compile(r"\.rotary_emb\.(?!freqs$)")
_BIAS = "causal_transformer.rel_pos_bias.relative_attention_bias.weight"


@dataclass(frozen=True)
class Converted:
    """A prior, and how it came about.

    Attributes:
        prior: in evaluation mode.
        layout: what its release computed.
        release: that wrote it; None where only the layout is known.
        schedule_difference: largest difference of a stored table of the schedule from the computed one.
        dropped: kinds of tensors that were left out, and how many.
    """

    prior: DiffusionPrior
    layout: Layout
    release: Release | None
    schedule_difference: float | None
    dropped: dict[str, int] = field(default_factory=dict)


def convert(
    source: Source,
    config: LibraryConfig,
    *,
    release: Release | None = None,
    attention: AttentionKind | None = None,
    prediction: Prediction | None = None,
) -> Converted:
    """The prior that the source's tensors are.

    Args:
        source: of ``read_source``.
        config: what the tensors do not show.
        release: instead of the one that the source names.
        attention: instead of the release's.
        prediction: instead of the configuration's; one of the two must say it.

    Raises:
        ValueError: the release is not known, names or shapes do not fit it, the schedule is another, values are not
            finite, or something must be said that nothing says.
    """
    for name, value, kind in (("attention", attention, AttentionKind), ("prediction", prediction, Prediction)):
        if value is not None:
            check_choice(name, value, kind)
    prediction = prediction or config.prediction
    if prediction is None:
        raise ValueError(
            f"{source.path} does not say what the network predicts; say --prediction "
            f"({', '.join(get_args(Prediction))}), or --config prior_config.json, or --check EMBEDDINGS to find out"
        )
    root = _root(source)
    net, tables, prefix, dropped = _sorted_out(source.tensors, root)
    release = release or source.release
    layout = _layout(source, release, net, prefix, attention)
    _check_self_cond(release, config)
    net = _todays_names(source, net, layout, dropped)
    settings = network_settings(net, layout, text_states=config.text_states)
    settings["self_cond"] = config.self_cond
    _agree(source, settings, config)
    schedule, difference = stored_schedule(source, tables, config, settings["num_timesteps"])
    if bad := not_finite(net):
        raise ValueError(
            f"{source.path}: {len(bad)} tensors are not finite, among them {bad[0]}; the training diverged"
        )
    prior = _built(source, settings, schedule, net, config, prediction)
    return Converted(prior, layout, release, difference, dict(dropped))


def _check_self_cond(release: Release | None, config: LibraryConfig) -> None:
    if config.self_cond and (release is None or SELF_COND[0] <= release < SELF_COND[1]):
        span = " to before ".join(dotted(part) for part in SELF_COND)
        raise ValueError(f"self-conditioning of {span} fed the image twice and has no like here; not supported")


def _root(source: Source) -> str:
    """What stands before ``net.`` or, in a bare network, before its first names."""
    found = [name for name in source.tensors if name.endswith("learned_query")]
    if len(found) != 1:
        raise ValueError(
            f"{source.path} has {len(found)} tensors called learned_query, not 1; give a DiffusionPrior's checkpoint"
        )
    return found[0].removesuffix("learned_query")


def _sorted_out(
    tensors: Mapping[str, Tensor], net_root: str
) -> tuple[dict[str, Tensor], dict[str, Tensor], str | None, Counter[str]]:
    """The network's tensors, the schedule's tables with their prefix, and what was dropped."""
    prior_root = net_root.removesuffix("net.")
    names = tuple(NoiseSchedule(timesteps=2).state_dict())
    net: dict[str, Tensor] = {}
    tables: dict[str, Tensor] = {}
    prefix, dropped = None, Counter[str]()
    for name, tensor in tensors.items():
        inner = name.removeprefix(prior_root)
        last = inner.rpartition(".")[2]
        if name.startswith(prior_root) and inner in (last, f"noise_scheduler.{last}") and last in names:
            tables[last], prefix = tensor, inner.removesuffix(last)
        elif name.startswith(prior_root) and inner.startswith("clip."):
            dropped["clip"] += 1
        elif _ROTARY_CACHE.search(name):
            dropped["rotary caches"] += 1
        elif inner == "_dummy":
            dropped["markers"] += 1
        else:
            net[name.removeprefix(net_root)] = tensor
    return net, tables, prefix, dropped


def _layout(
    source: Source,
    release: Release | None,
    net: Mapping[str, Tensor],
    prefix: str | None,
    attention: AttentionKind | None,
) -> Layout:
    possible = fitting(net, prefix)
    span = ", ".join(layout.releases for layout in possible) or "none that is known"
    if release is not None:
        layout = layout_of(release)
        if layout not in possible:
            raise ValueError(
                f"{source.path} is said to be of {dotted(release)}, but its names are those of {span}; "
                "correct --source-version"
            )
        return layout.with_attention(attention)
    meanings = {layout.with_attention(attention).meaning for layout in possible}
    if len(meanings) != 1:
        raise ValueError(
            f"{source.path} does not say which release of dalle2-pytorch wrote it; its names are those of {span}; "
            "say --source-version"
        )
    return possible[-1].with_attention(attention)


def _todays_names(
    source: Source, net: Mapping[str, Tensor], layout: Layout, dropped: Counter[str]
) -> dict[str, Tensor]:
    today: dict[str, Tensor] = {}
    for name, tensor in net.items():
        stem, _, last = name.rpartition(".")
        if layout.gain == "gamma" and last == "beta":
            if tensor.abs().max() > 0:
                raise ValueError(f"{source.path}: {name} is not zero, but the norms of this release had no bias")
            dropped["zero biases of norms"] += 1
            continue
        if name == "null_text_embeds" and layout.nulls == "text_kept":
            dropped["a null that was never read"] += 1
            continue
        name = f"{stem}.g" if last == layout.gain == "gamma" else _MAPPED.get(name, name)
        factor = layout.bias_factor if name == _BIAS else 1
        today[name] = tensor.to(torch.float32) * factor if factor != 1 else tensor.to(torch.float32)
    return today


def _agree(source: Source, settings: Mapping[str, Any], config: LibraryConfig) -> None:
    for name, said in config.network.items():
        if settings[name] != said:
            raise ValueError(
                f"{source.path} has {name} {settings[name]}, but the configuration says {said}; "
                "give the one that lies beside the weights"
            )


def _built(
    source: Source,
    settings: dict[str, Any],
    schedule: NoiseSchedule,
    net: dict[str, Tensor],
    config: LibraryConfig,
    prediction: Prediction,
) -> DiffusionPrior:
    with torch.device("meta"):
        network = PriorNetwork(**settings)
    found = {name: tuple(tensor.shape) for name, tensor in net.items()}
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    faults = {
        "missing": sorted(wanted.keys() - found.keys()),
        "unexpected": sorted(found.keys() - wanted.keys()),
        "of a wrong shape": sorted(name for name in wanted.keys() & found.keys() if wanted[name] != found[name]),
    }
    if told := [f"{len(names)} {kind} ({', '.join(names[:3])})" for kind, names in faults.items() if names]:
        raise ValueError(f"{source.path} does not fit a prior of its own sizes: {'; '.join(told)}")
    network.load_state_dict(net, assign=True)
    drops = {"text_drop": config.text_drop, "image_drop": config.image_drop}
    rest = {"prediction": prediction, "loss": config.loss, "clamp": config.clamp and prediction == "x0"}
    return DiffusionPrior(network, schedule, **drops, **rest).eval()

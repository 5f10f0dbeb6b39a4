"""Weights of others go into the model that they belong to, exactly, or are refused in a line."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint.state_dict_saver as saver
from safetensors.torch import save_file
from torch import Tensor

from modules.encoders.clip import CLIP, load_clip
from modules.encoders.fitting import RELATED, fit_weights, kinship
from modules.encoders.formats import open_weights
from tests.close import assert_close_to_rounding
from tests.modules.encoders.foreign import CONFIG, PIXELS, as_transformers, moved, new_clip, write_hub

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_hub(tmp_path_factory.mktemp("base") / "hub", new_clip())


@pytest.fixture(scope="module")
def tuned(base: str) -> State:
    """The whole CLIP after a fine-tuning of its image tower."""
    state = new_clip().state_dict()
    visual = {name: value for name, value in state.items() if name.startswith("visual.")}
    return {**state, **moved(visual)}


def visual_of(state: State) -> State:
    return {name.removeprefix("visual."): value for name, value in state.items() if name.startswith("visual.")}


def saved(content: Any, path: Path, **settings: Any) -> Path:
    torch.save(content, path, **settings)
    return path


def sharded(state: State, folder: Path) -> Path:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimiser = {f"state.{name}.exp_avg": value for name, value in state.items()}
        saver.save({"state_dict": state, "optimizer": optimiser, "epoch": 3, "name": "run"}, checkpoint_id=folder)
    return folder


def deepspeed(state: State, folder: Path) -> Path:
    (folder / "checkpoint").mkdir(parents=True)
    wrapped = {f"module.encoder.{name}": value for name, value in state.items() if name.startswith("visual.")}
    content = {"module": wrapped, "ds_config": Namespace(stage=2), "param_shapes": [torch.Size([2])]}
    saved(content, folder / "checkpoint" / "mp_rank_00_model_states.pt")
    return folder


def hub_of_transformers(state: State, folder: Path, act: str = "quick_gelu") -> Path:
    folder.mkdir()
    save_file(as_transformers(state), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"vision_config": {"hidden_act": act}}))
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": PIXELS["mean"], "image_std": PIXELS["std"]})
    )
    return folder


def pieces(state: State, folder: Path) -> Path:
    hub_of_transformers(state, folder)
    (folder / "model.safetensors").unlink()
    table = as_transformers(state)
    halves = {f"part-{i}.safetensors": {n: table[n] for n in list(table)[i::2]} for i in (0, 1)}
    for name, half in halves.items():
        save_file(half, folder / name)
    listed = {name: file for file, half in halves.items() for name in half}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": listed}))
    return folder


LAYOUTS: dict[str, tuple[str, Callable[[State, Path], Path]]] = {
    "FARE": ("visual", lambda s, p: saved(visual_of(s), p / "fare_eps_4.pt")),
    "FARE, before torch 1.6": (
        "visual",
        lambda s, p: saved(visual_of(s), p / "old.pt", _use_new_zipfile_serialization=False),
    ),
    "TeCoA": (
        "tecoa",
        lambda s, p: saved(
            {
                "epoch": 10,
                "state_dict": {"pad_up": torch.zeros(1, 3, 30, 224)},
                "best_acc1": np.float64(51.2),
                "vision_encoder_state_dict": {f"module.{n}": v for n, v in visual_of(s).items()},
            },
            p / "model_best.pth",
        ),
    ),
    "open_clip epoch": (
        "open_clip",
        lambda s, p: saved(
            {"epoch": 3, "name": "x", "state_dict": {f"module.{n}": v for n, v in s.items()}, "optimizer": {}},
            p / "epoch_3.pt",
        ),
    ),
    "open_clip before 2.0": (
        "open_clip",
        lambda s, p: saved(
            {**s, "input_resolution": torch.tensor(32), "context_length": torch.tensor(12)}, p / "old.bin"
        ),
    ),
    "Lightning": (
        "open_clip",
        lambda s, p: saved(
            {
                "state_dict": {f"model.visual.{n}": v for n, v in visual_of(s).items()},
                "hyper_parameters": Namespace(lr=1e-5),
                "global_step": 5,
            },
            p / "last.ckpt",
        ),
    ),
    "DCP": ("open_clip", lambda s, p: sharded(s, p / "epoch_3")),
    "DeepSpeed": ("open_clip", lambda s, p: deepspeed(s, p / "epoch=1.ckpt")),
    "open_clip hub folder": (
        "open_clip",
        lambda s, p: Path(write_hub(p / "hub", _whole(s)).removeprefix("local-dir:")),
    ),
    "transformers": ("transformers", lambda s, p: saved(as_transformers(s), p / "pytorch_model.bin")),
    "transformers hub folder": ("transformers", lambda s, p: hub_of_transformers(s, p / "leaf")),
    "transformers in pieces": ("transformers", lambda s, p: pieces(s, p / "leaf")),
}


def _whole(state: State) -> Any:
    model = new_clip()
    model.load_state_dict(state)
    return model


@pytest.mark.parametrize(("name", "write"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_a_tower_of_every_layout_gives_the_very_embeddings(
    name: str, write: Callable[[State, Path], Path], base: str, tuned: State, tmp_path: Path
) -> None:
    clip = load_clip(base)
    weights = open_weights(write(tuned, tmp_path))
    assert weights.format.name == name
    done = fit_weights(clip, weights)
    assert done["format"] == name and done["text"] is False
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = _whole(tuned).visual((x - clip.image.mean) / clip.image.std)
        assert_close_to_rounding(clip.image.encode_image(x), expected)
    found = clip.image.visual.state_dict()
    assert all(torch.equal(found[key], value) for key, value in visual_of(tuned).items())


@pytest.mark.parametrize("layout", ["open_clip epoch", "transformers", "DCP"])
def test_the_text_tower_and_temperature_of_a_whole_clip_come_along(
    layout: str, base: str, tuned: State, tmp_path: Path
) -> None:
    clip = load_clip(base)
    other = {**moved(tuned, seed=9), "logit_scale": torch.tensor(3.0)}
    done = fit_weights(clip, open_weights(LAYOUTS[layout][1](other, tmp_path)))
    assert done["text"] is True and clip.text is not None
    ids = clip.text.tokenize(["a red cat"])
    with torch.no_grad():
        expected = torch.nn.functional.normalize(_whole(other).encode_text(ids), dim=-1)
    assert_close_to_rounding(clip.text.encode_text(["a red cat"]), expected)
    assert clip.logit_scale == pytest.approx(float(torch.tensor(3.0).exp()))


def _refused(clip: CLIP, path: Path, told: str, **settings: Any) -> None:
    before = {name: value.clone() for name, value in clip.image.state_dict().items()}
    with pytest.raises(ValueError, match=told) as caught:
        fit_weights(clip, open_weights(path), **settings)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in clip.image.state_dict().items())


def test_a_matrix_that_was_stored_transposed_is_named(base: str, tuned: State, tmp_path: Path) -> None:
    state = visual_of(tuned)
    name = "transformer.resblocks.1.attn.out_proj.weight"
    turned = saved(state | {name: state[name].T.contiguous()}, tmp_path / "turned.pt")
    _refused(load_clip(base), turned, f"stores {name} transposed")
    as_parameters = {key: torch.nn.Parameter(value) for key, value in state.items()}
    fit_weights(load_clip(base), open_weights(saved(as_parameters, tmp_path / "parameters.pt")))


def test_weights_of_another_base_are_refused_though_every_shape_fits(base: str, tmp_path: Path) -> None:
    stranger = saved(visual_of(new_clip(seed=5).state_dict()), tmp_path / "other.pt")
    _refused(load_clip(base), stranger, r"was not fine-tuned from local-dir:.*: the cosine of its weights .* is -?0\.0")
    clip = load_clip(base)
    assert fit_weights(clip, open_weights(stranger), unrelated=True)["kinship"] < RELATED


def test_fine_tuned_weights_are_far_above_the_bar_and_strangers_far_below(tuned: State) -> None:
    own = visual_of(new_clip().state_dict())
    assert kinship(own, visual_of(tuned)) > 0.99 > 0.1 > kinship(own, visual_of(new_clip(seed=5).state_dict()))


def test_the_base_itself_is_no_robust_checkpoint(base: str, tmp_path: Path) -> None:
    own = visual_of(new_clip().state_dict())
    for state in (own, {name: value.half() for name, value in own.items()}):
        _refused(load_clip(base), saved(state, tmp_path / "fare4.pt"), "holds the weights of local-dir:.* themselves")


def test_missing_and_unexpected_tensors_are_named(base: str, tuned: State, tmp_path: Path) -> None:
    state = visual_of(tuned)
    state["ln_posst.weight"] = state.pop("ln_post.weight")
    path = saved({"vision_encoder_state_dict": state}, tmp_path / "t.pt")
    _refused(load_clip(base), path, r"2 tensors differ: no ln_post\.weight; unexpected ln_posst\.weight")
    layers = as_transformers(tuned)
    layers["vision_model.extra.weight"] = torch.zeros(1)
    layers["adapter"] = torch.zeros(1)
    path = saved(layers, tmp_path / "l.bin")
    _refused(load_clip(base), path, r"2 tensors differ: unexpected adapter; unexpected vision_model\.extra\.weight")


def test_a_tower_of_another_size_is_told_with_the_models_that_it_may_be_of(base: str, tmp_path: Path) -> None:
    config = {
        **CONFIG,
        "embed_dim": 512,
        "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
    }
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in new_clip(0, config).visual.state_dict().items()}
    large = {name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}
    path = saved(large, tmp_path / "b32.pt")
    _refused(load_clip(base), path, r"; and \d+ more\); its shapes are those of ViT-B-32")


def test_another_activation_or_normalisation_is_refused(base: str, tuned: State, tmp_path: Path) -> None:
    gelu = hub_of_transformers(tuned, tmp_path / "gelu", "gelu")
    _refused(load_clip(base), gelu, "it computes with GELU, that model with QuickGELU")
    plain = {**CONFIG, "quick_gelu": False}
    hub = Path(write_hub(tmp_path / "plain", _whole(tuned), plain).removeprefix("local-dir:"))
    _refused(load_clip(base), hub, "it computes with GELU, that model with QuickGELU")
    grey = Path(
        write_hub(tmp_path / "grey", _whole(tuned), pixels={"mean": [0.5] * 3, "std": [0.5] * 3}).partition(":")[2]
    )
    _refused(load_clip(base), grey, r"its pixels have mean \[0\.5, 0\.5, 0\.5\]")


def test_numbers_that_are_not_finite_are_refused(base: str, tuned: State, tmp_path: Path) -> None:
    broken = {**visual_of(tuned), "proj": torch.full((48, 24), torch.nan)}
    _refused(load_clip(base), saved(broken, tmp_path / "nan.pt"), "not finite, in proj")

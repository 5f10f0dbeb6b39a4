from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modules.prior.library_config import LibraryConfig, read_library_config

NET = {"dim": 768, "depth": 12, "heads": 12, "num_timesteps": 1000, "max_text_len": 77, "normformer": True}


def _read(folder: Path, content: Any) -> LibraryConfig:
    file = folder / "prior_config.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_library_config(file)


def test_the_whole_configuration_and_its_prior_part_say_the_same(tmp_path: Path) -> None:
    prior = {"net": NET, "image_embed_dim": 768, "cond_drop_prob": 0.1, "loss_type": "l2"}
    whole = _read(tmp_path, {"prior": prior, "data": {}, "train": {"epochs": 1}})
    assert whole == _read(tmp_path, prior)
    assert (whole.prediction, whole.loss, whole.text_drop, whole.image_drop) == ("x0", "l2", 0.1, 0.1)
    assert whole.schedule == "cosine" and whole.text_states and not whole.self_cond and not whole.clamp
    assert whole.network["depth"] == 12 and whole.network["rotary"] is True and whole.network["num_timesteps"] == 1000
    assert "max_text_len" not in whole.network  # older files do not hold it


@pytest.mark.parametrize(
    ("said", "prediction"),
    [
        ({}, "x0"),
        ({"predict_x_start": True}, "x0"),
        ({"predict_x_start": False}, "eps"),
        ({"predict_v": True}, "v"),
        ({"predict_v": True, "predict_x_start": False}, "v"),
    ],
)
def test_what_the_network_predicts_is_said_by_two_fields(
    said: dict[str, bool], prediction: str, tmp_path: Path
) -> None:
    assert _read(tmp_path, {"net": NET, **said}).prediction == prediction


def test_the_rarer_settings_are_read_too(tmp_path: Path) -> None:
    config = _read(
        tmp_path,
        {
            "net": {**NET, "self_cond": True, "rotary_emb": False},
            "cond_drop_prob": 0.2,
            "image_cond_drop_prob": 0.3,
            "text_cond_drop_prob": None,
            "training_clamp_l2norm": True,
            "beta_schedule": "linear",
            "loss_type": "huber",
            "condition_on_text_encodings": False,
            "image_embed_scale": 768**0.5,
        },
    )
    assert (config.text_drop, config.image_drop) == (0.2, 0.3)
    assert config.self_cond and config.clamp and not config.text_states
    assert (config.schedule, config.loss, config.network["rotary"]) == ("linear", "huber", False)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "is not JSON"),
        ([1], "has no 'prior' with a 'net'"),
        ({"prior": {}}, "has no 'prior' with a 'net'"),
        ({"net": NET, "loss_type": "l3"}, "unknown loss_type 'l3'; choose one of: l2, l1, huber"),
        ({"net": NET, "image_embed_scale": 1.0}, "image_embed_scale 1.0 is not the square root of dim 768"),
    ],
)
def test_what_is_no_such_configuration_is_refused(content: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=told):
        _read(tmp_path, content)


def test_a_missing_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no configuration at"):
        read_library_config(tmp_path / "none.json")

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from modules.prior import DiffusionPrior, load_prior, prior_metadata, save_prior

Tiny = Callable[..., DiffusionPrior]


def test_a_saved_prior_comes_back_bit_for_bit(tiny: Tiny, tmp_path: Path) -> None:
    prior = tiny({"num_text_embeds": 2}, prediction="v", clamp=False, loss="l1")
    file = save_prior(prior, tmp_path / "new" / "a.safetensors", encoder="ViT-B-32")
    again = load_prior(file)
    assert not again.training
    assert again.config() == prior.config()
    before, after = prior.state_dict(), again.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[k], after[k]) and before[k].dtype == after[k].dtype for k in before)
    assert len(list(again.parameters())) == len(list(prior.parameters()))  # still shared
    assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in prior.parameters()]
    assert not any(tensor.is_meta for tensor in after.values())


def test_a_folder_gets_the_file_and_no_temporary_one_stays(tiny: Tiny, tmp_path: Path) -> None:
    assert save_prior(tiny(), tmp_path) == tmp_path / "prior.safetensors"
    assert [file.name for file in tmp_path.iterdir()] == ["prior.safetensors"]
    assert load_prior(tmp_path).embedding_dim == 32


def test_a_failed_save_keeps_the_old_file(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save_prior(tiny(), tmp_path)
    before = file.read_bytes()

    def fails(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("modules.prior.storage.save_file", fails)
    with pytest.raises(OSError, match="disk full"):
        save_prior(tiny(loss="l1"), tmp_path)
    assert file.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_the_metadata_are_read_without_the_weights(tiny: Tiny, tmp_path: Path) -> None:
    prior = tiny()
    save_prior(prior, tmp_path, fingerprint="abc", pairs=16, healthy={"image": 0.8})
    assert prior_metadata(tmp_path) == {
        "kind": "prior",
        "config": prior.config(),
        "fingerprint": "abc",
        "pairs": 16,
        "healthy": {"image": 0.8},
    }


def test_metadata_that_are_not_plain_or_take_our_names_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="^prior metadata must be plain values"):
        save_prior(tiny(), tmp_path, weights=torch.zeros(2))
    with pytest.raises(ValueError, match="^prior metadata cannot be called 'kind'; rename it$"):
        save_prior(tiny(), tmp_path, kind="x")
    assert not list(tmp_path.iterdir())


def test_loading_leaves_the_global_generator_alone(tiny: Tiny, tmp_path: Path) -> None:
    save_prior(tiny(), tmp_path)
    state = torch.get_rng_state()
    load_prior(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)


def test_files_that_are_no_priors_are_refused_in_one_line(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="absent.safetensors: no such prior"):
        load_prior(tmp_path / "absent.safetensors")
    pickled = tmp_path / "pickled.safetensors"
    torch.save({"model": torch.zeros(3)}, pickled)
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        load_prior(pickled)
    cut = save_prior(tiny(), tmp_path / "cut.safetensors")
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        load_prior(cut)
    other = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(3)}, other)
    with pytest.raises(ValueError, match="a safetensors file, but not a prior of robustclip"):
        prior_metadata(other)
    for header in ("{", "[]", '{"kind": "encoder", "config": {}}', '{"kind": "prior"}'):
        save_file({"a": torch.zeros(3)}, other, metadata={"robustclip": header})
        with pytest.raises(ValueError, match="other.safetensors: ") as caught:
            load_prior(other)
        assert "\n" not in str(caught.value)


def test_tensors_that_do_not_fit_the_configuration_are_named(tiny: Tiny, tmp_path: Path) -> None:
    file = save_prior(tiny(), tmp_path)
    tensors, header = load_file(file), json.dumps(prior_metadata(file))
    whole = dict(tensors)
    del whole["net.learned_query"]
    whole["net.null_image_embed"] = torch.zeros(2, 32)
    whole["net.extra"] = torch.zeros(1)
    save_file(whole, file, metadata={"robustclip": header})
    with pytest.raises(
        ValueError,
        match="3 tensors do not fit its configuration, among them "
        "net.extra, net.learned_query, net.null_image_embed; save the prior again",
    ):
        load_prior(file)
    broken = json.dumps({"kind": "prior", "config": {"network": {"dim": 32, "wide": 1}}})
    save_file(tensors, file, metadata={"robustclip": broken})
    with pytest.raises(ValueError, match="prior.safetensors: not the configuration of a prior"):
        load_prior(file)

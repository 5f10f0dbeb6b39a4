"""``robustclip model convert-prior``: from a stranger's file to a prior of ours, or to one line."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from data.batches import EmbeddingBatch
from data.embeddings import write_embeddings
from modules.prior import DiffusionPrior, NoiseSchedule, PriorNetwork, load_prior, prior_metadata
from modules.prior.convert_check import Check
from tests.launch.typed import typed
from tests.modules.prior.goldens import FOLDER, state_of

TRAINED: dict[str, Any] = {"heads": 4, "dim_head": 16, "depth": 2, "max_text_len": 4, "num_timesteps": 50, "ff_mult": 2}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The command in this process: exit code, lines of standard error, standard output."""

    def run(*arguments: object) -> tuple[int, list[str], str]:
        monkeypatch.setenv("COLUMNS", "160")
        code = typed(monkeypatch, "model", "convert-prior", *arguments)
        told = capsys.readouterr()
        return code, told.err.splitlines(), told.out

    return run


def _pairs(count: int) -> tuple[Tensor, Tensor]:
    """Texts [n, 16], and images that are a curved function of them."""
    generator = torch.Generator().manual_seed(2)
    text = torch.randn(count, 16, generator=generator)
    mix = torch.randn(16, 16, generator=generator)
    return F.normalize(torch.sin(text @ mix) + 0.3 * text, dim=-1), F.normalize(text, dim=-1)


@pytest.fixture(scope="module")
def trained() -> DiffusionPrior:
    """A tiny prior of dot attention that knows its 64 pairs."""
    torch.manual_seed(0)
    network = PriorNetwork(dim=16, attention="dot", nulls="padding", **TRAINED)
    prior = DiffusionPrior(network, NoiseSchedule(timesteps=50), text_drop=0.0, image_drop=0.0)
    image, text = _pairs(64)
    optimiser = torch.optim.AdamW(prior.parameters(), lr=3e-3)
    for step in range(150):
        loss = prior.loss_per_sample(image, text, stream=f"train/{step}").mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return prior.eval()


def _as_release(prior: DiffusionPrior, version: str, path: Path) -> Path:
    """The file that a trainer of 0.23.3 to 1.8 would have saved."""
    factor = 128 if version < "1.4.3" else 1
    state = {n.replace("null_text_encodings", "null_text_embed"): t.clone() for n, t in prior.state_dict().items()}
    state["net.causal_transformer.rel_pos_bias.relative_attention_bias.weight"] /= factor
    torch.save({"model": state, "version": version, "step": 150}, path)
    return path


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embeddings") / "shards"
    image, text = _pairs(64)
    batch = EmbeddingBatch(image, text, None, tuple(f"{i}" for i in range(64)))
    write_embeddings(folder, [batch], {"encoder": "0123456789abcdef"})
    return folder


def test_a_released_prior_is_converted_checked_and_its_origin_is_kept(
    trained: DiffusionPrior, embeddings: Path, here: Any, tmp_path: Path
) -> None:
    source = _as_release(trained, "1.4.2", tmp_path / "a.pth")
    code, errors, out = here(source, tmp_path / "a.safetensors", "--check", embeddings, "--prediction", "x0")
    assert (code, errors) == (0, [])
    for part in ("1.4.2", "0.23.3 to before 1.4.3", "as trained", "dot", "cosine 0.", "with the other attention"):
        assert part in out
    told = prior_metadata(tmp_path / "a.safetensors")
    assert told["encoder"] == "0123456789abcdef"
    assert told["source"] | {"sha256": ""} == {
        "sha256": "",
        "version": "1.4.2",
        "weights": "model",
        "step": 150,
        "layout": "0.23.3 to before 1.4.3",
    }
    assert len(told["source"]["sha256"]) == 64
    checked = told["checked"]
    assert checked["n"] == 64 and checked["cosine"] > 0.9 > checked["cosine_other"] + 0.05
    again = load_prior(tmp_path / "a.safetensors")
    assert torch.equal(again.net.learned_query, trained.net.learned_query)
    bias = "net.causal_transformer.rel_pos_bias.relative_attention_bias.weight"
    torch.testing.assert_close(again.state_dict()[bias], trained.state_dict()[bias])


def test_a_swapped_attention_is_found_out_and_refused(
    trained: DiffusionPrior, embeddings: Path, here: Any, tmp_path: Path
) -> None:
    source = _as_release(trained, "1.4.2", tmp_path / "a.pth")
    target = tmp_path / "a.safetensors"
    code, errors, _ = here(source, target, "--check", embeddings, "--prediction", "x0", "--attention", "cosine")
    assert code == 2 and len(errors) == 1 and not target.exists()
    assert "was not converted: its samples have cosine" in errors[0]
    assert "with the other attention; say --attention" in errors[0]


def test_a_wrong_release_is_found_out_and_refused(
    trained: DiffusionPrior, embeddings: Path, here: Any, tmp_path: Path
) -> None:
    source = _as_release(trained, "1.4.2", tmp_path / "a.pth")
    code, errors, _ = here(
        source, tmp_path / "a.safetensors", "--check", embeddings, "--prediction", "x0", "--source-version", "1.4.3"
    )
    assert code == 2 and "was not converted" in errors[0]


def test_the_check_finds_out_what_the_network_predicts(
    trained: DiffusionPrior, embeddings: Path, here: Any, tmp_path: Path
) -> None:
    source = _as_release(trained, "1.4.2", tmp_path / "a.pth")
    code, errors, _ = here(source, tmp_path / "a.safetensors", "--check", embeddings)
    assert (code, errors) == (0, [])
    assert load_prior(tmp_path / "a.safetensors").prediction == "x0"


def test_a_prior_of_other_embeddings_is_refused(trained: DiffusionPrior, here: Any, tmp_path: Path) -> None:
    image, text = _pairs(64)
    folder = tmp_path / "others"
    write_embeddings(folder, [EmbeddingBatch(-image, text, None, tuple("ab" * 32))], {"encoder": "f" * 16})
    source = _as_release(trained, "1.4.2", tmp_path / "a.pth")
    code, errors, _ = here(source, tmp_path / "a.safetensors", "--check", folder, "--prediction", "x0")
    assert code == 2 and "that the embeddings are of the encoder of this prior" in errors[0]
    wide = tmp_path / "wide"
    write_embeddings(
        wide, [EmbeddingBatch(torch.eye(32), torch.eye(32), None, tuple("ab" * 16))], {"encoder": "f" * 16}
    )
    code, errors, _ = here(source, tmp_path / "a.safetensors", "--check", wide, "--prediction", "x0")
    assert code == 2 and "are 32 wide but the prior is 16 wide" in errors[0]


def test_without_a_check_the_file_says_so(here: Any, tmp_path: Path) -> None:
    code, errors, out = here(FOLDER / "trainer-0.6.0.pth", tmp_path, "--unchecked", "--prediction", "x0")
    assert (code, errors) == (0, [])
    assert "none was made" in out and "2 of clip" in out and "running mean (ema)" in out
    told = prior_metadata(tmp_path)
    assert told["checked"] is None and told["encoder"] is None
    assert told["source"]["version"] == "0.6.0" and told["source"]["weights"] == "ema"


def test_the_help_teaches_with_an_example_and_needs_no_torch() -> None:
    code = "import sys; from launch.cli import app; app(['model', 'convert-prior', '--help'], standalone_mode=False)"
    shown = subprocess.run(
        [sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules"], capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stderr
    assert "Example: robustclip model convert-prior best.pth prior.safetensors" in shown.stdout


def test_a_configuration_of_the_library_says_the_rest(here: Any, tmp_path: Path) -> None:
    net = {"dim": 16, "depth": 1, "heads": 2, "dim_head": 8, "ff_mult": 1, "normformer": True}
    config = {"prior": {"net": net, "predict_x_start": False, "loss_type": "l1", "cond_drop_prob": 0.2}}
    (tmp_path / "prior_config.json").write_text(json.dumps(config))
    code, errors, out = here(
        FOLDER / "trainer-1.15.6.pth", tmp_path, "--unchecked", "--config", tmp_path / "prior_config.json"
    )
    assert (code, errors) == (0, []) and "assumed" not in out
    prior = load_prior(tmp_path)
    assert (prior.prediction, prior.loss, prior.text_drop) == ("eps", "l1", 0.2)


def test_what_exists_is_never_overwritten(here: Any, tmp_path: Path) -> None:
    target = tmp_path / "prior.safetensors"
    target.write_text("mine")
    for named in (target, tmp_path):
        code, errors, _ = here(FOLDER / "trainer-1.15.6.pth", named, "--unchecked", "--prediction", "x0")
        assert code == 2 and errors == [f"robustclip: {target} exists; name a new file"]
    assert target.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["missing.pth", "--unchecked", "--prediction", "x0"], "no checkpoint at missing.pth"),
        (["trainer", "--prediction", "x0"], "say --check EMBEDDINGS to try the prior on pairs, or --unchecked"),
        (
            ["trainer", "--check", "e", "--unchecked"],
            "say --check EMBEDDINGS to try the prior on pairs, or --unchecked",
        ),
        (["trainer", "--check", "missing", "--prediction", "x0"], "no embeddings in 'missing'"),
        (["trainer", "--unchecked"], "say --prediction (x0, eps, v)"),
        (["trainer", "--unchecked", "--prediction", "x1"], "unknown --prediction 'x1'; choose one of: x0, eps, v"),
        (["trainer", "--unchecked", "--attention", "cos"], "unknown --attention 'cos'; choose one of: cosine, dot"),
        (["trainer", "--unchecked", "--weights", "mean"], "unknown --weights 'mean'; choose one of: ema, model"),
        (["trainer", "--unchecked", "--config", "missing.json"], "no configuration at missing.json"),
        (["trainer", "--unchecked", "--source-version", "new"], "the version 'new' cannot be read"),
        (["trainer", "--unchecked", "--source-version", "0.1.0", "--prediction", "x0"], "0.1.0 is not known"),
        (["trainer", "--unchecked", "--source-version", "0.6.0", "--prediction", "x0"], "said to be of 0.6.0, but"),
        (["flat", "--unchecked", "--prediction", "x0"], "say --source-version"),
        (["flat", "--unchecked", "--weights", "ema"], "leave out --weights"),
        (["cut", "--unchecked", "--prediction", "x0"], "is damaged or cut short"),
        (["text", "--unchecked", "--prediction", "x0"], "is not a file of torch.save"),
        (["nan", "--unchecked", "--prediction", "x0", "--source-version", "1.15.6"], "tensors are not finite"),
        (["evil", "--unchecked", "--prediction", "x0"], "it names posix.system, which could run code"),
    ],
)
def test_a_mistake_costs_one_line_and_writes_nothing(
    arguments: list[str], told: str, here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trainer").write_bytes((FOLDER / "trainer-1.15.6.pth").read_bytes())
    torch.save(state_of("1.15.6"), "flat")
    torch.save(state_of("1.15.6") | {"net.learned_query": torch.full((16,), torch.nan)}, "nan")
    Path("cut").write_bytes(Path("flat").read_bytes()[:20_000])
    Path("text").write_text("no checkpoint")
    _plant(Path("evil"), tmp_path / "mark")
    code, errors, _ = here(arguments[0], "new.safetensors", *arguments[1:])
    assert code == 2 and len(errors) == 1, errors
    assert errors[0].startswith("robustclip: ") and told in errors[0]
    assert not Path("new.safetensors").exists() and not Path("mark").exists()


class _Touches:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def _plant(path: Path, mark: Path) -> None:
    with zipfile.ZipFile("flat") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            evil = pickle.dumps({"model": _Touches(mark)}, 2)
            archive.writestr(name, evil if name.endswith("data.pkl") else content)


@pytest.mark.parametrize(
    ("cosine", "other", "told"),
    [
        (0.7, 0.3, None),
        (0.6, 0.59, None),
        (0.59, 0.1, "and should have 0.6 and more than the other"),
        (0.7, 0.7, "and should have 0.6 and more than the other"),
        (0.7, 0.8, "but 0.800 with the other attention; say --attention"),
        (float("nan"), 0.1, "and should have 0.6 and more than the other"),
    ],
)
def test_the_check_asks_for_enough_and_for_more_than_the_other_attention(
    cosine: float, other: float, told: str | None
) -> None:
    with pytest.raises(ValueError, match=told) if told else contextlib.nullcontext():
        Check(cosine, other, 256).require("a.pth")

"""Every command on every family that open_clip builds: it does its work, or refuses in one line that says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from data.sample import digits
from modules.encoders import load_clip
from tests.families import FAMILIES, TIMM_TOWERS, write_family, write_timm_tower
from tests.launch.typed import typed
from train.metrics import MetricsTable

TAKEN = [name for name, family in FAMILIES.items() if not family.refused]
QUICK = ("vit-quickgelu", "resnet", "convnext", "siglip", "coca", "small_dinov3")  # one of each kind of tower
EACH = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in (*TAKEN, *TIMM_TOWERS)]
RECIPE = """
model: {name: tiny}
threat: {norm: linf, eps: "${px:4}"}
objective: {name: fare}
attack: {name: pgd, steps: 2, step_size: "${px:1.5}", keep: last}
optimizer: {lr: 5.0e-3, weight_decay: 1.0e-4, warmup_steps: 1, max_steps: 2}
data: {shards: digits, batch_size: 4, workers: 0}
trainer: {checkpoint_every: 1, log_every: 1, accelerator: cpu, devices: 1}
encoder: R-CLIP_F
"""
EVALUATION = """
threat: {norm: linf, eps: "${px:4}"}
tasks: {t: {shards: digits, limit: 4}}
defenses: {none: {}, ttc: {}}
attacks: {pgd: {steps: 2, step_size: "${px:1}"}}
views: [adaptive]
examples: 0
device: cpu
"""
ATTACK = "attacks={apgd_ce: {name: apgd, loss: ce, steps: 2}}"
JUDGED = ["data.limit=4", "device=cpu", ATTACK, "strength.limit=2", "probes=2", "views=[adaptive]"]
TRAINED = ["optimizer.max_steps=2", "data.batch_size=4", "trainer.accelerator=cpu", "trainer.devices=1"]
PRIOR = ["optimizer.warmup_steps=1", "validation.every=2", "validation.sample_steps=2", "data.validation=4"]
REFUSED = {  # family and command -> what the line says
    ("vit-custom-blocks", "lora"): "LoRA needs attention with one joint projection",
    ("vit-custom-blocks", "checkpointing"): "open_clip cannot compute custom blocks anew",
    ("swin", "lora"): "attention works on windows of images",
    ("resnet", "lora"): "LoRA needs attention with one joint projection",
    ("resnet", "checkpointing"): "a ModifiedResNet cannot compute activations anew",
    ("resnet", "prior"): "token states are 16 wide but the prior is 24 wide",
}

Command = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """The command in this process, in a folder with recipes and images: exit code, output, lines of errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    Path("ft.yaml").write_text(RECIPE)
    Path("ev.yaml").write_text(EVALUATION)
    for number, name in enumerate(("a.png", "b.png")):
        Image.fromarray(digits("test").pixels[number]).resize((50, 40)).save(name)

    def run(*words: object) -> tuple[int, str, list[str]]:
        code = typed(monkeypatch, *words)
        told = capsys.readouterr()
        return code, told.out, [line for line in told.err.splitlines() if line.startswith("robustclip:")]

    return run


def base_of(family: str) -> list[str]:
    """The overrides that name a model of a family, written to the current folder."""
    if family in FAMILIES:
        return [f"model.name={write_family(family, Path.cwd() / 'base')}"]
    name = write_timm_tower(family, Path("base.safetensors"))
    return [f"model.name={name}", f"model.pretrained={Path.cwd() / 'base.safetensors'}", "model.image_size=32"]


@pytest.mark.parametrize("family", EACH)
def test_a_family_is_fine_tuned_resumed_exported_and_loaded_by_open_clip(
    family: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = base_of(family)
    code, out, errors = command("finetune", "ft.yaml", *base, "--out", "whole")
    assert code == 0 and not errors, errors
    tuned = load_file("whole/export/encoder.safetensors")
    name, tag = base[0].partition("=")[2], base[1].partition("=")[2] if len(base) > 1 else ""
    original = load_clip(name, tag, image_size=32 if tag else None).image.visual
    trained = {key for key, value in original.named_parameters() if value.requires_grad}
    before = original.state_dict()
    moved = {key for key in tuned if not torch.equal(before[key], tuned[key])}
    assert tuned.keys() == before.keys() and moved == trained  # fixed positions and batch statistics stay

    noted = MetricsTable.on_train_batch_end

    def killed(self: Any, trainer: Any, *rest: Any) -> None:
        noted(self, trainer, *rest)
        if trainer.global_step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MetricsTable, "on_train_batch_end", killed)
        assert command("finetune", "ft.yaml", *base, "--out", "resumed")[0] != 0
    assert command("finetune", "ft.yaml", *base, "--out", "resumed")[0] == 0
    again = load_file("resumed/export/encoder.safetensors")
    assert all(torch.allclose(tuned[key], again[key], rtol=0, atol=1e-5) for key in tuned)

    if family in TIMM_TOWERS:
        code, _, errors = command("model", "export", "whole/export/encoder.safetensors", "hub", "--to", "open-clip")
        assert code == 2 and "has no text tower and is no model of open_clip" in errors[0]
        return
    code, _, errors = command("model", "export", "whole/export/encoder.safetensors", "hub", "--to", "open-clip")
    assert code == 0, errors
    theirs = open_clip.create_model(f"local-dir:{Path.cwd() / 'hub'}").state_dict()
    assert all(torch.equal(theirs[f"visual.{key}"], value) for key, value in tuned.items())


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if family.refused])
@pytest.mark.parametrize("words", ["finetune ft.yaml BASE", "finetune ft.yaml BASE --dry-run", "evaluate NAME ev.yaml"])
def test_what_a_family_cannot_do_is_refused_in_one_line(family: str, words: str, command: Command) -> None:
    (base,) = base_of(family)
    typed_words = words.replace("BASE", base).replace("NAME", base.partition("=")[2])
    code, _, errors = command(*typed_words.split())
    assert code == 2 and len(errors) == 1 and "only square ones are supported" in errors[0]


@pytest.mark.slow
@pytest.mark.parametrize("family", [*TAKEN, *TIMM_TOWERS])
def test_every_command_works_on_a_family_or_says_why_not(family: str, command: Command) -> None:
    base, encoder = base_of(family), "ft/export/encoder.safetensors"
    texts = ["--text", "seven"] if family in FAMILIES else []
    commands: dict[str, list[object]] = {
        "finetune": ["finetune", "ft.yaml", *base, "--out", "ft"],
        "tecoa": ["finetune", "ft.yaml", *base, "objective={name: tecoa}", "--out", "tecoa"],
        "checkpointing": ["finetune", "ft.yaml", *base, "trainer.checkpointing=true", "--out", "lean"],
        "dry run": ["finetune", "ft.yaml", *base, "--dry-run"],
        "evaluate": ["evaluate", encoder, "ev.yaml", *base, "--out", "ev"],
        "report": ["report", "ev", "--out", "page"],
        "scorecard": ["scorecard", encoder, *base, "data.shards=digits", *JUDGED, "--out", "card"],
        "embed": ["embed", "tiny", *base, "data.shards=digits", "--out", "em"],
        "prior": ["prior", "prior_tiny", *base, "data.shards=em", "network.max_text_len=16", *TRAINED, *PRIOR],
        "prior without tokens": ["prior", "prior_tiny", *base, "data.shards=em", "data.tokens=false", *TRAINED, *PRIOR],
        "mlp": ["perceptual", "mlp_tiny", *base, *TRAINED, "evaluation=null", "--out", "mlp"],
        "lora": ["perceptual", "lora_tiny", *base, *TRAINED, "evaluation=null", "--out", "lora"],
        "distance": ["distance", "a.png", "b.png", "--checkpoint", encoder],
        "invert": ["invert", encoder, "--image", "a.png", *texts, "--steps", "2", "--out", "inv"],
        "inspect": ["model", "inspect", encoder],
        "visual-pt": ["model", "export", encoder, "v.pt", "--to", "visual-pt"],
        "consolidate": ["model", "consolidate", "ft", "con.safetensors"],
        "plan": ["plan", "ft.yaml", *base, "nodes=1", "devices=2", "--gpu", "h100"],
    }
    without_text = {"tecoa", "evaluate", "report", "scorecard", "embed", "prior", "prior without tokens"}
    for name, words in commands.items():
        code, out, errors = command(*words)
        refusal = REFUSED.get((family, name))
        if family in TIMM_TOWERS and name in without_text:
            assert code == 2 and len(errors) == 1, (name, errors)
        elif refusal:
            assert code == 2 and len(errors) == 1 and refusal in errors[0], (name, errors)
        else:
            assert code == 0, (name, errors, out[-500:])


@pytest.mark.slow
@pytest.mark.parametrize("family", ["vit-quickgelu", "resnet", "coca"])  # whose towers other processes can build
def test_a_base_of_a_family_is_robustified(family: str, command: Command) -> None:
    name = base_of(family)[0].partition("=")[2]
    small = [f"scorecard.{text}" for text in JUDGED]
    settings = ["steps=2", "batch=4", "trainer.accelerator=cpu", "trainer.devices=1", "data.workers=0", *small]
    where = ["data=digits", "test=digits", "--out", "out"]
    code, out, errors = command("robustify", name, *settings, *where, "--quick", "--yes")
    assert code == 0, (errors, out[-500:])
    assert json.loads(Path("out/scorecard/scorecard.json").read_text())
    assert Path("out/index.html").stat().st_size > 1000

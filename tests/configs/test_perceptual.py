from __future__ import annotations

import pytest

from configs.files import ConfigError
from configs.load import load_config, recipe_names


def faults(*overrides: str, kind: str = "perceptual", recipe: str = "mlp_tiny") -> list[str]:
    with pytest.raises(ConfigError) as told:
        load_config(kind, recipe, overrides)
    return str(told.value).splitlines()


def test_the_published_settings_are_the_defaults() -> None:
    config = load_config("perceptual", "lora_vit_b16", ["data.shards=nights"])
    optimizer, method = config.optimizer, config.method
    assert (optimizer.lr, optimizer.weight_decay, optimizer.betas) == (3e-4, 0.0, [0.5, 0.999])
    assert (config.margin, config.data.batch_size, config.data.framing) == (0.05, 32, "squash")
    assert method == {"name": "lora", "rank": 16, "alpha": 0.5, "dropout": 0.3}
    assert config.attack is None and config.threat is None


def test_steps_are_epochs_of_nights() -> None:
    triplets = 15941
    for name in recipe_names("perceptual"):
        if name.endswith(("_tiny", "_adversarial")):
            continue
        config = load_config("perceptual", name, ["data.shards=nights"])
        batch, epochs = (512, 20) if name.startswith("mlp") else (32, 8)
        assert config.data.batch_size == batch
        assert config.optimizer.max_steps == round(epochs * triplets / batch), name
        assert config.trainer.checkpoint_every == round(triplets / batch), name


def test_all_faults_are_told_together() -> None:
    told = faults("method.hiden=3", "margin=0", "attack.name=pgd", "data.batch_size=0", "optimizer.lr=-1")
    assert len(told) == 5
    for part in ("unknown key 'hiden'", "margin is 0", "threat is missing", "data.batch_size is 0", "lr=-1"):
        assert any(part in line for line in told), part


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (["method.hidden=0"], "method: method 'mlp': hidden is 0"),
        (["method={name: lora, dropout: 1.0}"], "dropout is 1.0; it is a share"),
        (["method={name: lora, rank: 0}"], "rank is 0"),
        (["method={name: lora, alpha: 0}"], "alpha is 0"),
        (["method.name=prompt"], "unknown method 'prompt'; choose one of: lora, mlp"),
        (["threat.eps=0.01"], "threat: there is no attack that it would bound"),
        (["attack.name=pgd", "threat={norm: l1, eps: 1.0}", "target=all"], "threat: several images cannot"),
        (["evaluation.elsewhere=true"], "evaluation.elsewhere: robustclip watch does not know"),
        (["evaluation={recipe: checkpoint_tiny}"], "the text tower does not know the head"),
        (["trainer.strategy=fsdp2"], "trainer.strategy: 'fsdp2': only a head or LoRA is trained"),
        (["trainer.compile=true"], "trainer.compile: perceptual has no such switch"),
        (["model.head=head.safetensors"], "model.head: no part of perceptual"),
    ],
)
def test_a_setting_that_cannot_be_is_told_in_a_line(said: list[str], words: str) -> None:
    (line,) = faults(*said)
    assert words in line


def test_lora_may_be_judged_zero_shot_while_it_trains() -> None:
    assert load_config("perceptual", "lora_tiny", ["evaluation={recipe: checkpoint_tiny}"]).evaluation


@pytest.mark.parametrize(
    ("kind", "recipe", "words"),
    [
        ("evaluate", "checkpoint_tiny", "tasks.digits-small reads classes off texts, and the text tower does not know"),
        ("scorecard", "quick", "model.head: no part of scorecard"),
        ("finetune", "fare_tiny_eps4", "model.head: no part of finetune"),
    ],
)
def test_no_text_is_asked_about_what_lies_behind_a_head(kind: str, recipe: str, words: str) -> None:
    name = ["model.name=tiny", "data.shards=digits"] if kind == "scorecard" else []
    assert any(words in line for line in faults("model.head=head.safetensors", *name, kind=kind, recipe=recipe))

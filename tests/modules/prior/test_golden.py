"""Our network, schedule, loss and samplers against the answers of the real releases."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from modules.prior import DiffusionPrior, NoiseSchedule
from modules.prior.diffusion import Prediction
from modules.prior.library_config import LibraryConfig
from modules.prior.loss import LossKind
from modules.prior.schedule import ScheduleKind
from tests.modules.prior.goldens import RELEASES, converted, golden

INPUTS = golden("inputs")
X, T, TEXT, IMAGE, TOKENS = (INPUTS[name] for name in ("x", "t", "text", "image", "tokens"))
NONE = torch.zeros(3, dtype=torch.bool)
UNDROPPED = ["0.23.0", "1.4.2", "1.4.3", "1.9.0"]
OPTIONS = ["1.15.6-many", "1.15.6-self_cond"]


def _config(name: str, **settings: Any) -> LibraryConfig:
    return LibraryConfig(self_cond=name.endswith("self_cond"), **settings)


def _close(got: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", RELEASES + OPTIONS)
@torch.no_grad()
def test_the_network_answers_as_the_release_did_with_its_text(name: str) -> None:
    net = converted(name, _config(name)).prior.net
    answer = net(X, T, TEXT, TOKENS)
    _close(answer, golden(name)["out/text"])
    _close(net(X, T, None, prefix=net.text_prefix(TEXT, TOKENS)), answer)


@pytest.mark.parametrize("name", RELEASES + OPTIONS)
@torch.no_grad()
def test_the_network_answers_as_the_release_did_without_text_states(name: str) -> None:
    net = converted(name, _config(name, text_states=False)).prior.net
    _close(net(X, T, TEXT), golden(name)["out/bare"])


@pytest.mark.parametrize("name", RELEASES + OPTIONS)
@torch.no_grad()
def test_a_drop_takes_away_what_it_took_away_in_the_release(name: str) -> None:
    net = converted(name, _config(name)).prior.net
    _close(net(X, T, TEXT, TOKENS, keep_text=NONE, keep_image=NONE), golden(name)["out/dropped"])


@pytest.mark.parametrize("name", [name for name in RELEASES + OPTIONS if name not in UNDROPPED])
@torch.no_grad()
def test_guidance_is_that_of_the_release(name: str) -> None:
    prior = converted(name, _config(name)).prior
    for null in (prior.text_prefix(None), None):
        _close(prior.denoise(X, T, TEXT, TOKENS, guidance=1.5, null_prefix=null), golden(name)["out/guided"])


@pytest.mark.parametrize("name", UNDROPPED)
def test_a_prior_that_never_lost_its_text_refuses_to_do_without(name: str) -> None:
    prior = converted(name).prior
    with pytest.raises(ValueError, match=r"^this prior never learnt to do without a text"):
        prior.text_prefix(None)
    with pytest.raises(ValueError, match="and no guidance$"):
        prior.denoise(X, T, TEXT, TOKENS, guidance=1.5)


@torch.no_grad()
def test_self_conditioning_is_that_of_the_release() -> None:
    net = converted("1.15.6-self_cond", _config("self_cond")).prior.net
    _close(net(X, T, TEXT, TOKENS, self_cond=INPUTS["estimate"]), golden("1.15.6-self_cond")["out/self_cond"])


@torch.no_grad()
def test_the_other_attention_the_other_norm_or_an_unscaled_bias_would_be_seen() -> None:
    for name, change in (
        ("1.4.3", {"attention": "dot"}),
        ("0.15.4", {"attention": "cosine"}),
        ("0.21.3", {"stable_norm": "none"}),
        ("1.9.0", {"nulls": "padding"}),
    ):
        net = converted(name).prior.net
        settings: dict[str, Any] = net.config() | change
        changed = type(net)(**settings).eval()
        changed.load_state_dict({k: t for k, t in net.state_dict().items() if k in changed.state_dict()})
        wrong = changed(X, T, TEXT, TOKENS, keep_text=NONE if name == "1.9.0" else None)
        right = golden(name)["out/dropped" if name == "1.9.0" else "out/text"]
        assert (wrong - right).abs().max() > 1e-4, name
    net = converted("0.16.1").prior.net
    net.causal_transformer.rel_pos_bias.relative_attention_bias.weight.div_(1024)
    assert (net(X, T, TEXT, TOKENS) - golden("0.16.1")["out/text"]).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("name", "prediction", "loss", "settings"),
    [
        ("l2/x0", "x0", "l2", {}),
        ("l2/eps", "eps", "l2", {}),
        ("l2/v", "v", "l2", {}),
        ("l1/x0", "x0", "l1", {}),
        ("huber/x0", "x0", "huber", {}),
        ("huber/v", "v", "huber", {}),
        ("l2/x0/clamp", "x0", "l2", {"clamp": True}),
        ("l2/x0/drop", "x0", "l2", {"text_drop": 0.5, "image_drop": 0.5}),
    ],
)
@torch.no_grad()
def test_the_training_loss_is_that_of_the_release(
    name: str, prediction: Prediction, loss: LossKind, settings: dict[str, float]
) -> None:
    theirs = converted("1.15.6").prior
    drops = {"text_drop": 0.0, "image_drop": 0.0}
    kinds = {"prediction": prediction, "loss": loss}
    prior = DiffusionPrior.from_config(theirs.config() | kinds | drops | settings).eval()
    prior.load_state_dict(theirs.state_dict())
    _close(prior.loss_per_sample(IMAGE, TEXT, TOKENS).mean(), golden("1.15.6")[f"loss/{name}"])


@pytest.mark.parametrize(("name", "steps", "guidance"), [("ddpm", 24, 1.0), ("ddim", 8, 1.0), ("ddim/guided", 8, 1.3)])
@torch.no_grad()
def test_a_whole_chain_ends_where_the_release_ended(name: str, steps: int, guidance: float) -> None:
    prior = converted("1.15.6").prior
    got = prior.sample(TEXT, TOKENS, steps=steps, guidance=guidance, best_of=1, legacy_levels=True)
    _close(got, torch.nn.functional.normalize(golden("1.15.6")[f"chain/{name}"], dim=-1))


@torch.no_grad()
def test_a_single_step_back_is_that_of_the_release() -> None:
    prior, expected = converted("1.15.6").prior, golden("1.15.6")
    step = prior.noise_scheduler.posterior(prior.denoise(X, T, TEXT, TOKENS), X, T)
    for got, name in zip(step, ("mean", "variance", "log_variance"), strict=True):
        _close(got, expected[f"step/{name}"])


@pytest.mark.parametrize("kind", ["cosine", "linear", "quadratic", "sigmoid", "jsd"])
def test_every_schedule_holds_the_tables_of_the_release(kind: ScheduleKind) -> None:
    theirs = {name.removeprefix(f"{kind}/"): t for name, t in golden("schedules").items() if name.startswith(kind)}
    ours = NoiseSchedule(timesteps=24, kind=kind).state_dict()
    assert ours.keys() == theirs.keys()
    for name, table in ours.items():
        _close(table, theirs[name], 1e-6)

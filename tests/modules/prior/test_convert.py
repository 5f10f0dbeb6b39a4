from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from modules.prior import DiffusionPrior, NoiseSchedule, PriorNetwork, load_prior, prior_metadata, save_prior
from modules.prior.architecture import network_settings
from modules.prior.convert import convert
from modules.prior.convert_source import Source, read_source
from modules.prior.layouts import layout_of
from modules.prior.library_config import LibraryConfig
from modules.prior.schedule import ScheduleKind
from tests.modules.prior.goldens import FOLDER, RELEASES, converted, golden, source_of, state_of

PLAIN = LibraryConfig()
TOLD = LibraryConfig(prediction="x0")


def _file(path: Path, state: dict[str, Tensor], kind: str, version: Any) -> Path:
    """A checkpoint as people have them."""
    if kind == "flat":
        torch.save(state, path)
    elif kind == "wrapped":
        torch.save({f"module.diffusion_prior.{name}": t for name, t in state.items()}, path)
    else:
        zeros = {name: torch.zeros_like(t) for name, t in state.items()}
        wrapper = {"initted": torch.tensor([True]), "step": torch.tensor([9])}
        wrapper |= {f"ema_model.{name}": t for name, t in state.items()}
        wrapper |= {f"online_model.{name}": t for name, t in zeros.items()}
        content = {"model": zeros, "ema": wrapper, "version": version, "step": 7, "optimizer": {"state": {}}}
        torch.save(content | ({"ema_model": state} if kind == "trainer" else {}), path)
    return path


@pytest.mark.parametrize("kind", ["trainer", "early trainer", "flat", "wrapped"])
@pytest.mark.parametrize("name", RELEASES)
@torch.no_grad()
def test_a_checkpoint_of_every_layout_and_wrapping_answers_as_its_release_did(
    name: str, kind: str, tmp_path: Path
) -> None:
    state = state_of(name) | {"clip.clip.visual.proj": torch.ones(4, 4), "clip.clip.logit_scale": torch.ones(())}
    file = _file(tmp_path / "a.pth", state, kind, name)
    source = read_source(file)
    result = convert(source, TOLD, release=None if "trainer" in kind else tuple(int(p) for p in name.split(".")))
    assert source.weights == ("ema" if "trainer" in kind else None)
    assert source.step == (7 if "trainer" in kind else None)
    assert result.dropped["clip"] == 2
    again = load_prior(save_prior(result.prior, tmp_path / "a.safetensors", checked=None))
    inputs = golden("inputs")
    answer = again.net(inputs["x"], inputs["t"], inputs["text"], inputs["tokens"])
    torch.testing.assert_close(answer, golden(name)["out/text"], rtol=1e-5, atol=1e-5)
    assert prior_metadata(tmp_path / "a.safetensors")["config"] == result.prior.config()


@pytest.mark.parametrize(("name", "layout"), [("0.6.0", "0.3.0 to before 0.11.0"), ("1.15.6", "1.10.4 to 1.15.6")])
def test_the_files_of_real_trainers_are_converted(name: str, layout: str) -> None:
    file = FOLDER / f"trainer-{name}.pth"
    for weights in ("ema", "model"):
        source = read_source(file, weights)
        result = convert(source, TOLD)
        assert (source.weights, source.step) == (weights, 6)
        assert result.layout.releases == layout
        assert result.prior.noise_scheduler.kind == "cosine"
        assert torch.equal(result.prior.net.learned_query, source.tensors["net.learned_query"])
    assert not torch.equal(
        read_source(file, "ema").tensors["net.learned_query"], read_source(file, "model").tensors["net.learned_query"]
    )


def test_a_running_mean_that_has_not_begun_is_left_aside(tmp_path: Path) -> None:
    content = {"model": {"w": torch.ones(1)}, "ema": {"initted": torch.tensor([0.0]), "ema_model.w": torch.zeros(1)}}
    torch.save(content, tmp_path / "a.pth")
    assert read_source(tmp_path / "a.pth").weights == "model"
    with pytest.raises(ValueError, match="has no running mean that has begun; say --weights model"):
        read_source(tmp_path / "a.pth", "ema")


def test_a_bare_table_of_tensors_has_no_choice_of_weights(tmp_path: Path) -> None:
    torch.save(state_of("1.9.0"), tmp_path / "a.pth")
    with pytest.raises(ValueError, match="leave out --weights"):
        read_source(tmp_path / "a.pth", "model")


@torch.no_grad()
def test_a_network_without_its_prior_needs_a_configuration_for_the_schedule() -> None:
    net = {n.removeprefix("net."): t for n, t in state_of("1.15.6").items() if n.startswith("net.")}
    bare = replace(source_of("1.15.6"), tensors=net)
    with pytest.raises(ValueError, match="has no noise schedule; say --config"):
        convert(bare, TOLD)
    result = convert(bare, replace(TOLD, schedule="linear"))
    assert (result.prior.noise_scheduler.kind, result.schedule_difference) == ("linear", None)
    assert torch.equal(result.prior.net.learned_query, net["learned_query"])


@pytest.mark.parametrize("kind", ["cosine", "linear", "quadratic", "sigmoid", "jsd"])
def test_the_stored_tables_decide_the_schedule(kind: ScheduleKind) -> None:
    tables = {f"noise_scheduler.{n}": t for n, t in NoiseSchedule(timesteps=24, kind=kind).state_dict().items()}
    result = convert(source_of("1.15.6", **tables), TOLD)
    assert result.prior.noise_scheduler.kind == kind
    assert result.schedule_difference is not None and result.schedule_difference < 1e-6


def test_a_schedule_of_no_known_kind_is_refused() -> None:
    betas = state_of("1.15.6")["noise_scheduler.betas"] * 1.01
    with pytest.raises(ValueError, match=r"its noise schedule is none of .*; the nearest, cosine, is 0\.0\d* away"):
        convert(source_of("1.15.6", **{"noise_scheduler.betas": betas}), TOLD)


def test_only_a_running_mean_may_have_tables_that_drifted() -> None:
    table = state_of("1.15.6")["noise_scheduler.alphas_cumprod"] * (1 - 2e-4)
    source = source_of("1.15.6", **{"noise_scheduler.alphas_cumprod": table})
    assert convert(replace(source, weights="ema"), TOLD).schedule_difference == pytest.approx(2e-4, rel=0.01)
    with pytest.raises(ValueError, match="its noise schedule is none of"):
        convert(replace(source, weights="model"), TOLD)


def test_a_running_mean_over_constant_tables_does_drift() -> None:
    table = mean = NoiseSchedule().alphas_cumprod
    for _ in range(5000):
        mean = mean * 0.9999 + (1 - 0.9999) * table
    assert 1e-6 < (mean - table).abs().max() < 1e-3


@pytest.mark.parametrize(("name", "factor"), [("0.16.0", 1), ("0.16.1", 1024), ("0.23.0", 1024), ("1.4.2", 128)])
def test_the_bias_is_scaled_as_the_release_scaled_it(name: str, factor: int) -> None:
    key = "causal_transformer.rel_pos_bias.relative_attention_bias.weight"
    assert torch.equal(converted(name).prior.net.state_dict()[key], state_of(name)[f"net.{key}"] * factor)


def test_an_old_file_without_a_version_is_converted_where_its_names_leave_no_doubt() -> None:
    for name in ("0.6.0", "0.15.4"):
        result = convert(replace(source_of(name), release=None), TOLD)
        assert result.release is None and result.layout.meaning == ("dot", "masked", "none", 1)


@pytest.mark.parametrize("name", ["0.16.0", "0.21.3", "1.4.2", "1.4.3", "1.9.0", "1.15.6"])
def test_a_file_without_a_version_is_refused_where_its_names_mean_several_things(name: str) -> None:
    with pytest.raises(ValueError, match=r"does not say which release .* those of .*; say --source-version$"):
        convert(replace(source_of(name), release=None), TOLD)


def test_a_stored_version_that_cannot_be_read_can_be_overruled(tmp_path: Path) -> None:
    source = read_source(_file(tmp_path / "a.pth", state_of("1.9.0"), "trainer", "nightly"))
    assert source.release is None
    assert convert(source, TOLD, release=(1, 9, 0)).release == (1, 9, 0)


def test_a_version_that_its_names_contradict_is_refused() -> None:
    with pytest.raises(ValueError, match=r"said to be of 1\.15\.6, but .* those of 0\.11\.0 to before 0\.16\.0"):
        convert(source_of("0.15.4"), TOLD, release=(1, 15, 6))
    with pytest.raises(ValueError, match=r"dalle2-pytorch 3\.0 is not known"):
        convert(source_of("1.15.6"), TOLD, release=(3, 0))


def test_another_attention_can_be_asked_for() -> None:
    usual, other = convert(source_of("1.4.3"), TOLD), convert(source_of("1.4.3"), TOLD, attention="dot")
    assert (usual.prior.net.config()["attention"], other.prior.net.config()["attention"]) == ("cosine", "dot")
    assert other.layout.meaning == converted("1.4.2").layout.meaning


def test_what_the_network_predicts_must_be_said() -> None:
    with pytest.raises(ValueError, match=r"say --prediction \(x0, eps, v\), or --config .*, or --check EMBEDDINGS"):
        convert(source_of("1.15.6"), PLAIN)
    assert convert(source_of("1.15.6"), PLAIN, prediction="v").prior.prediction == "v"
    assert convert(source_of("1.15.6"), TOLD, prediction="eps").prior.prediction == "eps"


def test_the_configuration_of_another_network_is_refused() -> None:
    with pytest.raises(ValueError, match="has depth 2, but the configuration says 24"):
        convert(source_of("1.15.6"), replace(TOLD, network={"dim": 16, "depth": 24}))


def test_the_settings_of_the_training_come_from_the_configuration() -> None:
    config = LibraryConfig(prediction="x0", loss="huber", text_drop=0.2, image_drop=0.3, clamp=True)
    prior = convert(source_of("1.15.6"), config).prior
    assert (prior.loss, prior.text_drop, prior.image_drop, prior.clamp) == ("huber", 0.2, 0.3, True)
    assert not prior.training


def test_the_broken_self_conditioning_of_old_releases_is_refused() -> None:
    config = replace(TOLD, self_cond=True)
    with pytest.raises(ValueError, match=r"self-conditioning of 1\.6\.2 to before 1\.12\.1 fed the image twice"):
        convert(source_of("1.9.0"), config)
    assert convert(source_of("1.15.6"), config).prior.net.self_cond


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s.pop("net.null_image_embed"), "its names are those of none that is known"),
        (lambda s: s.pop("net.causal_transformer.layers.1.0.to_q.weight"), r"1 missing \(causal.*to_q\.weight\)"),
        (lambda s: s.update({"net.more.w": torch.ones(1), "else": torch.ones(1)}), r"2 unexpected \(else, more\.w\)"),
        (lambda s: s.update({"net.causal_transformer.project_out.weight": torch.ones(3, 3)}), "1 of a wrong shape"),
        (lambda s: s.pop("net.learned_query"), "has 0 tensors called learned_query, not 1"),
        (lambda s: s["net.learned_query"].fill_(torch.nan), "1 tensors are not finite, among them learned_query"),
        (lambda s: s.pop("net.causal_transformer.layers.0.0.null_kv"), "not the tensors of a prior: .*null_kv"),
        (lambda s: s.update({"net.causal_transformer.layers.0.1.5.weight": torch.ones(16, 17)}), "no multiple of 16"),
    ],
)
def test_tensors_that_do_not_make_a_prior_are_refused_in_one_line(change: Any, told: str) -> None:
    state = state_of("1.15.6")
    change(state)
    with pytest.raises(ValueError, match=told) as refused:
        convert(replace(source_of("1.15.6"), tensors=state), TOLD)
    assert "\n" not in str(refused.value)


def test_a_norm_with_a_bias_is_refused() -> None:
    name = "net.causal_transformer.norm.beta"
    with pytest.raises(ValueError, match="norm.beta is not zero"):
        convert(source_of("0.15.4", **{name: torch.ones(16)}), TOLD)


@pytest.mark.parametrize("content", [3, [torch.ones(1)], {}, {"a": 1}])
def test_a_file_without_tensors_is_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="holds (no tensors|a int|a list)"):
        read_source(tmp_path / "a.pth")


def test_half_precision_becomes_single(tmp_path: Path) -> None:
    state = {name: t.half() if name.startswith("net.") else t for name, t in state_of("1.15.6").items()}
    torch.save(state, tmp_path / "a.pth")
    prior = convert(read_source(tmp_path / "a.pth"), TOLD, release=(1, 15, 6)).prior
    assert {t.dtype for t in prior.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize(
    ("sizes", "nulls", "count", "keys"),
    [
        ({"depth": 24, "heads": 32, "max_text_len": 256}, "learned", 249_416_720, 285),
        ({"depth": 12, "heads": 12, "max_text_len": 77}, "learned", 101_756_560, 153),
        ({"depth": 24, "heads": 32, "max_text_len": 77}, "masked", 249_218_576, 282),
    ],
)
def test_the_sizes_of_the_released_priors_are_read_off_their_tensors(
    sizes: dict[str, Any], nulls: Any, count: int, keys: int
) -> None:
    attention = "cosine" if nulls == "learned" else "dot"
    stable = "last" if nulls == "learned" else "none"
    with torch.device("meta"):
        network = PriorNetwork(dim=768, nulls=nulls, attention=attention, stable_norm=stable, **sizes)
    assert sum(p.numel() for p in network.parameters()) == count
    prior = DiffusionPrior(network, NoiseSchedule())
    assert len(prior.state_dict()) == keys
    layout = layout_of((1, 15, 6) if nulls == "learned" else (0, 15, 4))
    settings = network_settings(network.state_dict(), layout)
    known = network.config()
    assert settings == {name: known[name] for name in settings}


def _own_memory() -> int:
    """Bytes of this process that are not mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("RssAnon:")))


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux to tell mapped memory from own")
def test_a_large_file_does_not_need_its_size_in_memory(tmp_path: Path) -> None:
    size = 1 << 27
    state = state_of("1.15.6") | {"clip.clip.w": torch.ones(size // 4), "clip.clip.v": torch.ones(1)}
    torch.save(state, tmp_path / "a.pth")
    del state
    before = _own_memory()
    prior = convert(read_source(tmp_path / "a.pth"), TOLD, release=(1, 15, 6)).prior
    save_prior(prior, tmp_path / "a.safetensors")
    assert _own_memory() - before < size / 4


def test_a_source_of_safetensors_is_read(tmp_path: Path) -> None:
    save_file({name: t.clone() for name, t in state_of("1.15.6").items()}, tmp_path / "a.safetensors")
    source = read_source(tmp_path / "a.safetensors")
    assert isinstance(source, Source)
    assert convert(source, TOLD, release=(1, 15, 6)).dropped == {}
    (tmp_path / "b.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="is damaged or not a safetensors file"):
        read_source(tmp_path / "b.safetensors")

"""``robustclip model export``: a checkpoint, or the results of a run, in the format of somebody else."""

from __future__ import annotations

import json
from pathlib import Path

from configs.files import ConfigError, write_atomically
from launch.exchange.subject import Wanted

TARGETS = ("open-clip", "visual-pt", "hub", "robustbench", "clip-benchmark")


def run_export(source: str, out: Path, to: str, *, wanted: Wanted, results: list[Path], licence: str = "") -> None:
    """Write ``out``.

    Args:
        source: file, folder or name of a model; for results, the folder of an evaluation.
        out: new file or folder.
        to: one of ``TARGETS``.
        wanted: what was said about the base.
        results: folders of evaluations and scorecards, for a card.
        licence: of the weights, for a card.

    Raises:
        ConfigError: an unknown target, ``out`` is there already, or results are missing or of other weights.
        ValueError: what loading the model refuses.
    """
    if to not in TARGETS:
        raise ConfigError(f"unknown --to {to!r}; choose one of: {', '.join(TARGETS)}")
    if out.exists():
        raise ConfigError(f"{out} exists; name a new file or folder")
    if (results or licence) and to != "hub":
        raise ConfigError("--results and --licence belong to a card; say --to hub")
    if to in ("robustbench", "clip-benchmark"):
        _export_results(Path(source), out, to, wanted)
    else:
        _export_weights(source, out, to, wanted, results, licence)
    print(f"{to}: {out}")


def _export_weights(source: str, out: Path, to: str, wanted: Wanted, results: list[Path], licence: str) -> None:
    from launch.exchange.folders import WEIGHTS, new_folder, write_open_clip, write_visual
    from launch.exchange.model_card import model_card
    from launch.exchange.results import read_measured
    from launch.exchange.subject import exported
    from modules.weights_file import sha256_of

    subject = exported(source, wanted)
    if to == "visual-pt":
        write_visual(out, subject)
        return
    measured = read_measured(results, subject.fingerprint)
    with new_folder(out) as folder:
        write_open_clip(folder, subject)
        if to == "hub":
            digest = sha256_of(folder / WEIGHTS)
            card = model_card(out.name, subject, measured, licence=licence, weights=digest)
            (folder / "README.md").write_text(card, encoding="utf-8")


def _export_results(run: Path, out: Path, to: str, wanted: Wanted) -> None:
    from launch.exchange.results import RESULTS, read_measured
    from launch.exchange.tables import clip_benchmark, robustbench, write_clip_benchmark

    if not (run / RESULTS).is_file():
        raise ConfigError(f"{run} holds no {RESULTS}; --to {to} takes the folder of an evaluation or a scorecard")
    measured = read_measured([run])
    model, pretrained = _judged(run, wanted)
    if to == "clip-benchmark":
        write_clip_benchmark(out, clip_benchmark(measured, model, pretrained))
        return
    if len(measured.datasets) != 1:
        raise ConfigError(f"{run} has several data sets ({', '.join(measured.datasets)}); RobustBench's file is of one")
    found = robustbench(measured, measured.datasets[0], model)
    write_atomically(out, json.dumps(found, indent=2, ensure_ascii=False) + "\n")


def _judged(run: Path, wanted: Wanted) -> tuple[str, str]:
    """Name and tag of the model that a run judged; its checkpoint's name is the tag, as clip_benchmark has it."""
    from configs.yaml_file import read_yaml

    try:
        model = read_yaml(run / "config.yaml")["model"]
        name, tag = str(model["name"]), Path(str(model.get("checkpoint") or model.get("pretrained") or "")).name
    except (ConfigError, KeyError, TypeError, AttributeError) as error:  # no file, no YAML, another kind of config
        if wanted.model is None:
            raise ConfigError(f"{run}/config.yaml does not say which model was judged; say --model NAME") from error
        name, tag = wanted.model, ""
    return wanted.model or name, wanted.pretrained or tag

"""``robustclip evaluate CHECKPOINT --protocol NAME``: sets found, evaluations run, ours beside the published."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.files import ConfigError, write_atomically
from configs.load import plain, recipe_names
from configs.overrides import in_full, keys_of, override
from configs.protocol import load_protocol, name_of
from configs.schema import ProtocolConfig
from data.folder_lock import locked_folder
from eval.protocols.places import Places, find_places
from eval.protocols.plan import Step, label_of, steps_of
from eval.protocols.record import Record, has_record, read_record, write_record
from eval.protocols.start import started
from eval.tables import threat_name
from launch.evaluation import TURN, last_of_all, part_of, show_results, told_by


def run_protocol(
    checkpoint: str,
    name: str,
    overrides: Sequence[str],
    out: Path | None,
    *,
    dry_run: bool,
    command: str,
    shard: str = "1/1",
) -> None:
    """Judge a checkpoint by a protocol; whole, one shard, or this rank's part.

    Args:
        checkpoint: a file or folder of weights, or a model by name.
        name: of the protocol, or its file.
        overrides: ``data=FOLDER``, ``only=…`` and every other ``key=value``.
        out: folder.
        dry_run: only say what would be done.
        command: for the record.
        shard: ``3/8`` judges one part of the images.

    Raises:
        ConfigError: every fault of protocol, overrides, model and sets, one a line, before anything is judged.
    """
    overrides = in_full("protocol", overrides)
    config = load_protocol(name, [*_base(checkpoint, name, overrides), *overrides, *told_by(checkpoint, overrides)])
    record, steps = _prepared(name, config)
    if dry_run:
        _show(record, steps)
        return
    number, count, ranks = part_of(shard)
    if count > 1 and out is None:
        raise ConfigError("a part of a protocol needs --out, the same for all parts")
    from train.runs import open_run

    run = open_run(name_of(name), config, out, command=command) if count == 1 else None
    folder = run.folder if run else _shared(out, record, config, command)
    begin = time.perf_counter()
    if run and not run.finished:
        write_record(folder, record)
    for step in steps if not (run and run.finished) else []:
        _judge(step, folder / step.folder, (number, count), command, probes=config.adaptive.probes)
    if run and not run.finished:
        run.finish({"protocol": time.perf_counter() - begin})
    if count > 1 and not ranks:
        print(f"shard {number} of {count}: {folder}\njoin the shards: robustclip report {folder}")
    elif count == 1 or last_of_all(number):
        show_results(folder)


def _shared(out: Path | None, record: Record, config: ProtocolConfig, command: str) -> Path:
    """The folder of a run that several processes share; the first one writes what all of them mean.

    Raises:
        ConfigError: it is another run's.
    """
    assert out is not None
    with locked_folder(out, patience=TURN):
        _agree(out, record, config, command)
    return out


def _agree(out: Path, record: Record, config: ProtocolConfig, command: str) -> None:
    from eval.evaluate import write_run

    if has_record(out):
        there = read_record(out)
        if (there.label, there.steps, there.encoder) != (record.label, record.steps, record.encoder):
            raise ConfigError(f"{out} holds another run ({there.label}); name a new folder with --out")
    else:
        write_run(out, config, seed=config.seed, command=command)
        write_record(out, record)


def _prepared(name: str, config: ProtocolConfig) -> tuple[Record, list[Step]]:
    """The record of a run that has no numbers yet, and its evaluations; all faults are told together."""
    faults = _model_faults(config)
    try:
        places = find_places(config)
    except ConfigError as error:
        faults += str(error).splitlines()
        places = Places({}, [])
    if faults:
        raise ConfigError("\n".join(faults))
    label = label_of(name_of(name), config)
    steps = steps_of(label, config, places, plain(config.model), config.encoder)
    return started(name, label, config, places, steps), steps


def _model_faults(config: ProtocolConfig) -> list[str]:
    from modules.encoders.clip import load_clip

    if not config.model.name:
        return ["model.name is missing: the weights do not say it; say model.name=… model.pretrained=…"]
    try:
        load_clip(config.model.name, config.model.pretrained, image_size=config.model.image_size, weights=False)
    except ValueError as error:
        return str(error).splitlines()
    return []


def _base(checkpoint: str, name: str, overrides: Sequence[str]) -> list[str]:
    """What need not be said: the base that a checkpoint names, or else the protocol's."""
    said = keys_of(overrides)
    if "model.name" in said:
        return []
    base: dict[str, str] = {}
    if Path(checkpoint).is_file():
        from modules.weights_file import read_content

        base = dict(read_content(Path(checkpoint))[1].get("base", {}))
    published = load_protocol(name).base
    theirs = {"name": published.name, "pretrained": published.pretrained}
    if not base and published.name and (Path(checkpoint).exists() or checkpoint == published.name):
        base = theirs
    return [override(f"model.{key}", value) for key, value in base.items() if f"model.{key}" not in said]


def _judge(step: Step, folder: Path, place: tuple[int, int], command: str, *, probes: int) -> None:
    """One evaluation, or one shard of it; and on the first shard what its defences' gradients are like."""
    from eval.evaluate import evaluate_checkpoint
    from eval.merge import shard_folder
    from eval.protocols.health import examine
    from train.runs import open_run

    number, count = place
    inner = folder if count == 1 else shard_folder(folder, number, count)
    run = open_run(step.folder, step.config, inner, command=command)
    if not run.finished:
        print(f"{step.folder}: {len(step.config.tasks)} sets")
        evaluate_checkpoint(step.config, run.folder, command=command, shard=place)
    if number == 1 and step.kind == "adaptive":
        examine(step.config, folder, probes=probes)
    write_atomically(run.folder / "done", "")


def show_protocol(folder: Path) -> None:
    """Print the tables of a protocol's run."""
    from eval.protocols.terminal import print_record

    print_record(read_record(folder))


def gather(folder: Path) -> None:
    """Join the evaluations of a protocol's run, and their shards, into ``protocol.json``.

    Raises:
        ConfigError: an evaluation is not finished.
    """
    from eval.protocols.collect import collect

    collect(folder, read_record(folder))


def _show(record: Record, steps: Sequence[Step]) -> None:
    from rich.table import Table

    from data.terminal import terminal
    from eval.protocols.terminal import print_remarks

    console, table = terminal(), Table(title=f"{record.label}: {record.title}")
    for column in ("evaluation", "threat", "sets", "images of a set", "defences", "attacks", "views"):
        table.add_column(column, overflow="fold")
    for step in steps:
        config, images = step.config, {task.limit or task.first or "all" for task in step.config.tasks.values()}
        table.add_row(
            *(step.folder, threat_name(step.norm, step.eps) if step.kind != "clean" else "–"),
            *(", ".join(config.tasks), ", ".join(map(str, images)), ", ".join(config.defenses)),
            *(", ".join(config.attacks) or "none", ", ".join(config.views) or "–"),
        )
    console.print(table)
    print_remarks(record, console)


def list_protocols() -> None:
    """Print every shipped protocol: whose, its sets, radii, attacks, images, and what nobody knows of it."""
    known = [described(name) for name in recipe_names("protocol")]
    from rich.table import Table

    from data.terminal import terminal

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in known:
        table.add_row(f"[bold]{one['name']}[/bold]", f"[bold]{one['title']}[/bold]  ({one['protocol']})")
        for key in ("source", "sets", "radii", "images", "attacks", "defenses", "unknown"):
            value = one[key]
            table.add_row(f"  {key}", value if isinstance(value, str) else "\n".join(value) or "nothing")
        table.add_row("", "")
    terminal().print(table)


def described(name: str) -> dict[str, Any]:
    """Plain values of a protocol: what a user has to know before running it."""
    config = load_protocol(name)
    parts = config.parts
    return {
        "name": name,
        "protocol": label_of(name, config),
        "title": config.title,
        "source": config.source,
        "sets": [f"{part}: {', '.join(group.sets)}" for part, group in parts.items()],
        "radii": [f"{part}: {', '.join(threat_name(g.norm, eps) for eps in g.eps)}" for part, g in parts.items()],
        "attacks": [_attack_words(attack, node or {}) for attack, node in config.attacks.items()],
        "defenses": list(config.defenses),
        "images": [f"{part}: {_images(group)}" for part, group in parts.items()],
        "precision": config.precision,
        "differs": list(config.differs),
        "unknown": list(config.unknown),
    }


def _attack_words(name: str, node: dict[str, Any]) -> str:
    settings = ", ".join(f"{key} {_number(value)}" for key, value in node.items() if key not in ("name", "views"))
    return f"{name} ({settings})" if settings else name


def _number(value: Any) -> str:
    if isinstance(value, float) and 0 < value < 1:
        return f"{value * 255:g}/255"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _images(group: Any) -> str:
    if group.first is not None:
        return f"the first {group.first:,} of the list"
    if group.attacked is not None:
        return f"all clean, {group.attacked:,} attacked"
    return "all" if group.limit is None else f"{group.limit:,}"

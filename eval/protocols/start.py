"""The record of a protocol's run before anything was judged: what is meant, what is missing, what is published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from configs.protocol import changed, name_of
from configs.schema import ProtocolConfig
from eval.protocols.places import Places
from eval.protocols.plan import BARE, Step
from eval.protocols.published import Published, released_as, systems_for, unplaced
from eval.protocols.record import PartRecord, Record, StepRecord

NO_WEIGHTS = "CLIP"
"""How published tables call the base model itself."""


def started(recipe: str, label: str, config: ProtocolConfig, places: Places, steps: Sequence[Step]) -> Record:
    """The record of a run that has no numbers yet.

    Args:
        recipe: name of the protocol, or its file.
        label: with its hash.
        config: checked, with the model that is judged.
        places: of its sets.
        steps: its evaluations.
    """
    name, (system, architecture, weights) = name_of(recipe), _subject(config)
    checkpoint = config.model.checkpoint
    return Record(
        name=name,
        label=label,
        title=config.title,
        source=config.source,
        encoder=config.encoder,
        model=[architecture, weights],
        checkpoint=Path(checkpoint).name if checkpoint else "",
        systems={defense: _systems(config, defense, system) for defense in config.defenses},
        precision=config.precision,
        batch=config.batch,
        resolution=config.resolution,
        templates=config.templates,
        changed=changed(recipe, config),
        differs=list(config.differs),
        unknown=list(config.unknown),
        parts=[
            PartRecord(part, list(group.sets), list(config.attacks), group.average)
            for part, group in config.parts.items()
        ],
        missing=[[one.part, one.name, one.why] for one in places.missing],
        steps=[
            StepRecord(step.folder, step.part, step.kind, step.norm, step.eps, list(step.config.tasks))
            for step in steps
        ],
        known=systems_for(name, (architecture, weights)),
        unplaced=[_told(one) for one in unplaced(name)],
    )


def _subject(config: ProtocolConfig) -> tuple[str, str, str]:
    """(system, architecture, weights) of what is judged, as published tables call them; empty where nobody says."""
    known = released_as(config.model.name)
    if known:
        return known
    bare = NO_WEIGHTS if config.model.checkpoint is None else ""
    return config.system or bare, config.model.name, config.model.pretrained


def _systems(config: ProtocolConfig, defense: str, system: str) -> list[str]:
    if defense == BARE or not system:
        return [system] if system else []
    own = config.systems.get(defense, [])
    return own if system == NO_WEIGHTS else [f"{system} + {one}" for one in own]


def _told(one: Published) -> str:
    return f"{one.system} on {one.dataset}: {one.text} % ({one.attack}; {one.model}; {one.paper})"

"""What was measured on the very weights that are exported, read back from the folders of runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from configs.files import ConfigError
from eval.card import FILE, Card, read_card
from eval.merge import PREFIX
from eval.outcomes import read_header
from eval.results import Result, read_results

RESULTS = "results.jsonl"


@dataclass(frozen=True)
class Measured:
    """Results of evaluations and scorecards.

    Attributes:
        rows: in the order of the folders.
        cards: scorecards among them.
        fingerprints: of the weights that were judged.
    """

    rows: list[Result] = field(default_factory=list)
    cards: list[Card] = field(default_factory=list)
    fingerprints: set[str] = field(default_factory=set)

    @property
    def datasets(self) -> list[str]:
        """Names of the data sets, in order."""
        return list(dict.fromkeys(row.dataset for row in self.rows))

    def of(self, dataset: str, **wanted: object) -> list[Result]:
        """The rows of a data set whose fields are as wanted."""
        own = [row for row in self.rows if row.dataset == dataset]
        return [row for row in own if all(getattr(row, name) == value for name, value in wanted.items())]


def read_measured(folders: list[Path], fingerprint: str | None = None) -> Measured:
    """The results in some folders.

    Args:
        folders: of evaluations and scorecards.
        fingerprint: of the weights that they must be about; None takes those of any one encoder.

    Raises:
        ConfigError: no results, damaged, or of other weights.
    """
    found = Measured()
    for folder in folders:
        found.rows.extend(read_results(folder / RESULTS))
        judged = {str(read_header(file).get("weights", "")) for file in sorted(folder.glob(PREFIX + "*.json"))}
        if (folder / FILE).is_file():
            found.cards.append(read_card(folder))
            judged.add(found.cards[-1].weights)
        judged.discard("")
        if not judged:
            raise ConfigError(f"{folder} does not say which weights were judged; give the folder of an evaluation")
        if fingerprint is not None and judged != {fingerprint}:
            raise ConfigError(
                f"{folder} holds results of other weights ({', '.join(sorted(judged))}) than those that are exported "
                f"({fingerprint}); evaluate these"
            )
        found.fingerprints.update(judged)
    if len(found.fingerprints) > 1:
        raise ConfigError(f"results of several encoders ({', '.join(sorted(found.fingerprints))}); give those of one")
    return found

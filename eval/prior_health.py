"""Whether a prior is healthy, in words: its measures against the ranges that were published with released priors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

PUBLISHED = (
    "The healthy ranges were published for priors of ViT-L/14 after about a billion samples, whose loss ended near "
    "0.1; other encoders, fewer samples and repeated captions move them."
)


@dataclass(frozen=True)
class Measure:
    """One number of a validation.

    Attributes:
        name: column of ``metrics.csv``.
        label: in words.
        low: healthy from here on; None is unbounded.
        high: healthy up to here.
        healthy: the range in words; empty where none was published.
        signed: show the sign.
        above: what it means to lie far above, and from where on.
    """

    name: str
    label: str
    low: float | None = None
    high: float | None = None
    healthy: str = ""
    signed: bool = False
    above: tuple[float, str] | None = None

    def shown(self, value: float) -> str:
        """The number as text."""
        return f"{value:+.3f}" if self.signed else f"{value:.3f}"

    def verdict(self, value: float) -> str:
        """``healthy``, ``below the healthy range`` or ``above the healthy range``; empty where there is none."""
        if not self.healthy:
            return ""
        if self.low is not None and not value >= self.low:
            return "below the healthy range"
        if self.high is not None and not value <= self.high:
            return "above the healthy range"
        return "healthy"

    def sentence(self, value: float) -> str:
        """The number, whether it is healthy, and the range."""
        said = f"{self.label} {self.shown(value)}"
        if not self.healthy:
            return f"{said}."
        said += f": {self.verdict(value)} ({self.healthy})."
        return f"{said} {self.above[1]}" if self.above and value > self.above[0] else said


LOSS = Measure("val/loss", "Validation loss", None, 0.15, "0.15 or less")
LIVE = Measure("val/loss_live", "Validation loss of the weights in training")
IMAGE = Measure("val/similarity_image", "Similarity with the original image", 0.75, None, "0.75 or more")
TEXT = Measure("val/similarity_text", "Similarity with the text")
BASELINE = Measure("val/baseline", "Similarity of image and text (baseline)")
DIFFERENCE = Measure(
    "val/difference_from_baseline",
    "Difference from the baseline",
    -0.01,
    0.01,
    "within 0.01 of 0",
    signed=True,
    above=(0.02, "Above 0.02 is a sign of overfitting."),
)
UNRELATED = Measure("val/similarity_unrelated", "Similarity with an unrelated text", None, 0.1, "0.1 or less")
MEASURES = (LOSS, LIVE, IMAGE, TEXT, BASELINE, DIFFERENCE, UNRELATED)


def measures_of(prediction: str = "x0", loss: str = "l2") -> tuple[Measure, ...]:
    """All measures; the published loss is that of priors that predict x_0 under the mean squared error."""
    usual = (prediction, loss) == ("x0", "l2")
    return MEASURES if usual else (Measure(LOSS.name, LOSS.label), *MEASURES[1:])


def in_short(values: Mapping[str, float], measures: tuple[Measure, ...] = MEASURES) -> str:
    """How many measures are healthy, and which are not."""
    judged = [measure for measure in measures if measure.healthy and measure.name in values]
    if not judged:
        return "No pairs were held out, so nothing is said about its health."
    outside = [measure for measure in judged if measure.verdict(values[measure.name]) != "healthy"]
    if not outside:
        return f"All {len(judged)} measures with a published range are healthy."
    named = ", ".join(f"{measure.label.lower()} {measure.shown(values[measure.name])}" for measure in outside)
    return (
        f"{len(judged) - len(outside)} of {len(judged)} measures with a published range are healthy; outside: {named}."
    )


def in_words(values: Mapping[str, float], measures: tuple[Measure, ...] = MEASURES) -> list[str]:
    """A sentence for every measure."""
    return [measure.sentence(values[measure.name]) for measure in measures if measure.name in values]


def health_table(values: Mapping[str, float], measures: tuple[Measure, ...] = MEASURES) -> Table:
    """A terminal's table of a validation: measure, value, healthy range, verdict."""
    from rich.table import Table

    table = Table("held-out pairs", "value", "healthy", "", title="the prior's health", title_justify="left")
    for measure in measures:
        if measure.name in values:
            value = values[measure.name]
            table.add_row(measure.label, measure.shown(value), measure.healthy, measure.verdict(value))
    return table


def progress_line(step: int, values: Mapping[str, float]) -> str:
    """A validation in a line."""
    short = {
        "val/loss": "loss",
        "val/loss_live": "live",
        "val/similarity_image": "image",
        "val/similarity_text": "text",
        "val/baseline": "baseline",
        "val/similarity_unrelated": "unrelated",
    }
    said = [f"{label} {values[name]:.3f}" for name, label in short.items() if name in values]
    return f"step {step}: validation {', '.join(said)}"

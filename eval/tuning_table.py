"""A tuning for the terminal: the settings of the last rung, the winner on the judging images, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from eval.card import Share
from eval.inert import inert
from eval.score_table import doubt_line
from eval.tables import percent, threat_name
from eval.tuning_record import Kind, Score, Tuning

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

STYLES: dict[Kind, str] = {"beats": "bold green", "does not beat": "bold", "is worse": "bold", "not believable": "red"}
ROWS = 8  # settings that are shown


def tuning_table(tuning: Tuning) -> Group:
    """The tuning as rich text; names are inert, and the verdict is green only where the paired test allows it."""
    from rich.console import Group
    from rich.text import Text

    tuning = inert(tuning)
    where = f"{tuning.encoder}, {tuning.defense}, {tuning.dataset}, {threat_name(tuning.norm, tuning.eps)}"
    head = Text.assemble((where, "bold"), f"  {tuning.count:,} of {tuning.grid:,} settings tried")
    parts: list[Table | Text] = [head, _table(tuning)]
    if tuning.qualifier:
        parts.append(Text.assemble(("! ", "magenta"), tuning.qualifier))
    first, *rest = tuning.verdict.sentences
    parts += [Text(first, style=STYLES[tuning.verdict.kind]), *(Text(text) for text in rest)]
    parts += [doubt_line(doubt) for doubt in tuning.doubts]
    return Group(*parts)


def _table(tuning: Tuning) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title="accuracy in %, 95 % interval", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("setting", overflow="fold")
    for name in ("clean", "transfer", "worst"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("cost", justify="right", no_wrap=True)
    last = tuning.rungs[-1]
    table.add_row(Text(f"tuning images, {last.name}", style="italic"))
    table.add_row(Text("undefended"), *_cells(last.bare), Text("1 ×"))
    for one in last.tried[:ROWS]:
        table.add_row(Text(one.name), *_cells(one.score), Text(f"{one.cost:.3g} ×"))
    table.add_section()
    table.add_row(Text("judging images", style="italic"))
    table.add_row(Text("undefended"), *_cells(tuning.bare), Text("1 ×"))
    table.add_row(Text(tuning.winner), *_cells(tuning.judged), Text(f"{tuning.chosen.cost:.3g} ×"))
    return table


def _cells(score: Score) -> Sequence[Text]:
    return [_share(score.clean), _share(score.transfer), _share(score.worst)]


def _share(share: Share | None) -> Text:
    from rich.text import Text

    if share is None:
        return Text("–")
    return Text.assemble(percent(share.value), (f" {percent(share.low)}–{percent(share.high)}", "dim"))

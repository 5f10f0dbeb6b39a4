"""Templates become pages; whatever a run wrote is text on them, never markup."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from eval.tables import percent, points

PAGES = Path(__file__).parent


def render(template: str, **context: Any) -> str:
    """The page of a template of this folder; every value is escaped unless it is ``trusted``."""
    return _environment().get_template(template).render(context).lstrip()


@cache
def _environment() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "points": points}
    return environment


def trusted(markup: str) -> Any:
    """Markup that this project drew itself."""
    from markupsafe import Markup

    return Markup(markup)


def style(*names: str) -> Any:
    """The style sheets of a page, one after the other."""
    return trusted("\n".join((PAGES / name).read_text(encoding="utf-8") for name in names))

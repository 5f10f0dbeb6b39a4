"""The text files that lie with images: class names in the order of the labels, and templates of prompts."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from data.source import check_classes
from data.text_files import read_lines

CLASS_FILE = "classnames.txt"
TEMPLATE_FILE = "zeroshot_classification_templates.txt"
DEFAULT_TEMPLATES = ("a photo of a {}.",)


def read_classes(path: Path, *, ties: bool = False) -> list[str]:
    """Return the class names of a file, one a line, as clip_benchmark reads them: blank lines are skipped.

    Raises:
        ValueError: no name, a comment, or a name that stands on two lines where no ``ties`` are allowed.
    """
    names = []
    for number, line in read_lines(path):
        if line == "#" or line.startswith("# "):
            raise ValueError(f"line {number} of '{path}' looks like a comment; every line is a class, remove it")
        names.append(class_name(line))
    if not names:
        raise ValueError(f"'{path}' names no class; write one a line, in the order of the labels")
    if not ties:
        check_classes(names, f"'{path}'")
    return names


def read_templates(path: Path) -> list[str]:
    """Return the templates of a file, one a line, with ``{c}`` turned into ``{}``; blank lines are skipped.

    Raises:
        ValueError: no template, or one without a place for the class name.
    """
    templates = []
    for number, line in read_lines(path):
        template = line.replace("{c}", "{}")
        if template.count("{}") != 1:
            raise ValueError(f"line {number} of '{path}' needs one {{c}} for the class name: '{template}'")
        templates.append(template)
    if not templates:
        raise ValueError(f"'{path}' holds no template; write one a line with {{c}} for the class name, or remove it")
    return templates


def class_name(text: str) -> str:
    """Return a class name in Unicode's composed form (NFC): one word is one class, whichever system wrote it."""
    return unicodedata.normalize("NFC", text)

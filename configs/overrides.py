"""``key=value`` as it was typed: for a text the very text, for everything else what the setting is declared as."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Union, get_args, get_origin

import yaml

from configs.family import leaves, put
from configs.fields import Setting, has_setting, has_value, setting_at
from configs.files import ConfigError
from configs.schema import KINDS
from configs.values import read_value

SHORTS = {
    "eps": "threat.eps",
    "norm": "threat.norm",
    "lr": "optimizer.lr",
    "steps": "optimizer.max_steps",
    "batch": "data.batch_size",
    "data": "data.shards",
    "model": "model.name",
    "pretrained": "model.pretrained",
}
"""Short names of keys, for every kind of config that has the key and nothing else of the short name."""

_KEY = r"\w[\w-]*(\.[\w-]+)*"
_OPENING, _CLOSING = "[{(", "]})"


def split_override(word: str) -> tuple[str, str]:
    """Key and text of ``a.b=c``.

    Raises:
        ConfigError: it is not of that form.
    """
    key, equals, text = word.partition("=")
    if not equals or not re.fullmatch(_KEY, key):
        raise ConfigError(f"an override reads key=value, such as trainer.devices=8, not: {word}")
    return key, text


def key_of(word: str) -> str:
    """The key of ``a.b=c``; the whole word where it is no override."""
    return word.partition("=")[0]


def keys_of(words: Sequence[str]) -> set[str]:
    """The keys of some overrides."""
    return {key_of(word) for word in words}


def value_of(words: Sequence[str], key: str) -> str | None:
    """The text that some overrides last give to a key, out of its quotes; None where they do not."""
    texts = [word.partition("=")[2] for word in words if key_of(word) == key]
    return unquoted(texts[-1]) if texts else None


def override(key: str, value: str) -> str:
    """The override that sets a text, whatever characters it holds."""
    return f"{key}={json.dumps(value, ensure_ascii=False)}"


def full_key(kind: str, key: str, text: str) -> str:
    """A key in full: ``eps`` is ``threat.eps``; keys of the config itself and ``data={…}`` stay."""
    full = SHORTS.get(key)
    if (
        full is None
        or text == "null"
        or text.lstrip().startswith("{")
        or has_value(kind, key)
        or not has_setting(kind, full)
    ):
        return key
    return full


def in_full(kind: str, words: Sequence[str]) -> list[str]:
    """Overrides with their keys in full; words that are no overrides stay."""
    parts = [word.partition("=") for word in words]
    return [f"{full_key(kind, key, text)}={text}" if equals else key for key, equals, text in parts]


def parse_overrides(kind: str, tree: Mapping[str, Any], words: Sequence[str]) -> list[tuple[tuple[str, ...], Any]]:
    """Paths and values of ``a.b=c``.

    Where a text is declared, the value is the text as typed: ``#``, ``007``, ``on``, ``a: b`` and spaces stay. One in
    quotes, ``"x"`` or ``'x'``, is the text between them; ``null`` is no value where there may be none, and the text in
    quotes. Elsewhere values are read as YAML, without comments.

    Args:
        kind: of the config.
        tree: its plain values so far, which name its components.
        words: the overrides.

    Raises:
        ConfigError: every word that cannot be read, one a line.
    """
    bad = [word for word in words if not re.match(_KEY + "=", word)]
    if bad:
        raise ConfigError(f"an override reads key=value, such as trainer.devices=8, not: {', '.join(bad)}")
    told = [split_override(word) for word in in_full(kind, words)]
    scratch = json.loads(json.dumps(tree, default=str))
    found: list[tuple[tuple[str, ...], Any]] = []
    faults: list[str] = []
    for _ in range(2):  # twice, since a later word may name the component that an earlier one sets
        found, faults = [], []
        for key, text in told:
            path = tuple(key.split("."))
            try:
                value = _read(kind, path, text, scratch)
            except ValueError as error:
                faults.append(f"{key}={text}: {error}")
                continue
            found.append((path, value))
            put(scratch, path, value)
    if faults:
        raise ConfigError("\n".join(faults))
    return found


def _read(kind: str, path: tuple[str, ...], text: str, tree: dict[str, Any]) -> Any:
    setting = setting_at(KINDS[kind], path, tree)
    value = _typed(setting, ".".join(path), text)
    if not isinstance(value, dict):
        return read_value(setting, value, typed=True)
    put(tree, path, value)  # a table names its components itself
    for inner, one in leaves(value):
        if inner:
            put(value, inner, read_value(setting_at(KINDS[kind], (*path, *inner), tree), one, typed=True))
    return value


def _typed(setting: Setting, key: str, text: str) -> Any:
    if text == "null" and (setting.optional or not setting.is_text):
        return None
    if (
        not (text if setting.is_text else text.strip())
        and (setting.optional or not setting.is_text)
        and setting.hint is not Any
    ):
        raise ConfigError("it has no value; leave it out" + (f", or say {key}=null" if setting.optional else ""))
    if setting.is_text:
        return unquoted(text)
    if get_origin(setting.hint) is Union and str in get_args(setting.hint):
        return int(text) if re.fullmatch(r"[+-]?\d+", text) else unquoted(text)
    if setting.hint is int and re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    if setting.hint in (int, float):
        return _number(text) if setting.hint is float and not setting.marks else unquoted(text)
    listed = text.strip()
    if setting.is_texts and "${" not in text and not listed.startswith("["):
        raise ConfigError(f"it takes a list, such as {key}=[{text}]")
    if get_origin(setting.hint) is list and listed.startswith("[") and listed.endswith("]"):
        items = [item.strip() for item in split_values(listed[1:-1])]
        if setting.is_texts:
            return [unquoted(item) for item in items if item]
        if get_args(setting.hint)[0] is float:
            return [_number(item) if not setting.marks else item for item in items if item]
    return yaml_value(text) if text else None


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return unquoted(text)


def unquoted(text: str) -> str:
    """A text, out of its quotes where all of it stands in quotes: ``"a\\tb"`` as in JSON, ``'it''s'`` as in YAML."""
    if re.fullmatch(r"'(?:[^']|'')*'", text, re.S):
        return text[1:-1].replace("''", "'")
    if len(text) > 1 and text.startswith('"') and text.endswith('"'):
        try:
            return str(json.loads(text, strict=False))
        except ValueError:
            return text
    return text


def split_values(text: str) -> list[str]:
    """The values between bare commas; inside brackets, braces and quotes a comma belongs to the value.

    ``0,1`` are two, ``[0,1]`` is one list, ``[0],[0,1]`` are two lists, ``'a,b'`` is one text.

    Raises:
        ConfigError: brackets or quotes that do not close.
    """
    values, open_, quote, start = [], [], "", 0
    for at, c in enumerate(text):
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"" and (not text[start:at].strip() or open_):  # elsewhere an apostrophe is only that
            quote = c
        elif c in _OPENING:
            open_.append(c)
        elif c in _CLOSING and open_:
            if _OPENING.index(open_.pop()) != _CLOSING.index(c):
                raise ConfigError(f"the brackets of {text!r} do not close as they open")
        elif c == "," and not open_:
            values.append(text[start:at])
            start = at + 1
    if quote or open_:
        raise ConfigError(f"{quote or open_[-1]} in {text!r} does not close")
    return [*values, text[start:]]


class _Values(yaml.SafeLoader):
    """YAML of one line: no comments, no dates, numbers as people write them."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if not tag.endswith((":timestamp", ":int", ":float"))]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def scan_to_next_token(self) -> None:
        """Skip spaces, and refuse a comment, which would cut the value off.

        Raises:
            ConfigError: a ``#`` stands outside of quotes.
        """
        while self.peek() in " \n\r\x85\u2028\u2029":
            self.forward()
        if self.peek() == "#":
            raise ConfigError("a # would cut the value off; put the text in quotes")


_INT, _FLOAT = (
    re.compile(r"[-+]?\d+"),
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN)"),
)
for _tag, _pattern in (("int", _INT), ("float", _FLOAT)):
    _Values.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern.pattern})$"), list("-+.0123456789")
    )
_Values.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))


def yaml_value(text: str) -> Any:
    """The value of a text in YAML, of which nothing is a comment.

    Raises:
        ConfigError: it is no YAML, or a ``#`` would cut it off.
    """
    try:
        return yaml.load(text, _Values)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError("it cannot be read; put texts in quotes") from error


def radius_text(value: float, norm: str) -> str:
    """A radius in [0, 1] pixels as an override gives it, in the unit of its norm: ``4/255``."""
    if norm in ("l1", "l2"):
        return repr(float(value))
    levels = round(255 * value, 6)
    if levels / 255 == value:
        return f"{levels:.12g}/255"
    return repr(float(value)) if value < 0.1 else f"{255 * value!r}/255"

"""The plain values in a pickle, without running it: no function that it names is looked up, let alone called.

Enough of the pickle machine for what CIFAR's and the revisited Oxford's authors wrote: tables, lists, texts, numbers,
and NumPy's numbers and arrays of numbers, which are put together here from the shape and the bytes that the file holds.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

MAX_BYTES = 1024**3
_MARK = object()
_ARRAY = {"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"}
_SCALAR = {"numpy.core.multiarray scalar", "numpy._core.multiarray scalar"}
_KINDS = ("u1", "i4", "i8", "f4", "f8")
_VALUES = {"BINSTRING", "SHORT_BINSTRING", "STRING", "BINBYTES", "SHORT_BINBYTES"}
_TEXTS = {"BINUNICODE", "SHORT_BINUNICODE", "UNICODE"}
_NUMBERS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "BINFLOAT", "FLOAT"}


@dataclass
class _Made:
    """What a pickle says to make: the name of a function or class, its arguments, and the state put in."""

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None


def read_plain(path: Path) -> Any:
    """The value that a pickle holds: tables with bytes as keys (as Python 2 wrote them), lists, numbers, arrays.

    Raises:
        ValueError: it holds anything else, or is damaged.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"'{path}' has {path.stat().st_size} bytes; a pickle of more than {MAX_BYTES} is not read")
    try:
        return _plain(_value(path.read_bytes()))
    except _RefusedError as error:
        raise ValueError(f"'{path}' was refused: it holds {error}, and only plain values are read") from None
    except Exception as error:  # damaged files fail in many ways
        raise ValueError(f"'{path}' is no pickle of plain values ({error}); fetch it again") from error


class _RefusedError(Exception):
    """A pickle wants more than plain values."""


def _value(content: bytes) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for opcode, said, _ in pickletools.genops(content):
        name, argument = opcode.name, cast(Any, said)
        if name in ("PROTO", "FRAME"):
            continue
        if name == "STOP":
            return stack.pop()
        if name in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else int(argument)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[int(argument)])
        elif name in _VALUES:
            stack.append(argument if isinstance(argument, bytes) else argument.encode("latin-1"))
        elif name in _TEXTS or name in _NUMBERS:
            stack.append(argument)
        elif name in ("NONE", "NEWTRUE", "NEWFALSE"):
            stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
        elif name == "GLOBAL":
            stack.append(_Made(argument))
        else:
            _build(name, stack)
    raise ValueError("it has no end")


def _build(name: str, stack: list[Any]) -> None:
    """One step that takes from the stack and puts back."""
    if name == "MARK":
        stack.append(_MARK)
    elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
        stack.append({"EMPTY_DICT": {}, "EMPTY_LIST": [], "EMPTY_TUPLE": ()}[name])
    elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
        taken = [stack.pop() for _ in range(int(name[-1]))]
        stack.append(tuple(reversed(taken)))
    elif name in ("TUPLE", "LIST", "DICT"):
        taken = _since_mark(stack)
        stack.append({"TUPLE": tuple, "LIST": list, "DICT": _pairs}[name](taken))
    elif name in ("APPEND", "APPENDS"):
        taken = [stack.pop()] if name == "APPEND" else _since_mark(stack)
        stack[-1].extend(taken)
    elif name in ("SETITEM", "SETITEMS"):
        taken = [stack.pop(), stack.pop()][::-1] if name == "SETITEM" else _since_mark(stack)
        stack[-1].update(_pairs(taken))
    elif name == "REDUCE":
        arguments, made = stack.pop(), stack.pop()
        stack.append(_called(made, arguments))
    elif name == "BUILD":
        state = stack.pop()
        stack[-1].state = state
    else:
        raise _RefusedError(f"the step {name}")


def _called(made: Any, arguments: tuple[Any, ...]) -> Any:
    """What a call stands for; only those that make an array, its type, or bytes."""
    if not isinstance(made, _Made):
        raise _RefusedError("a call")
    if made.name == "_codecs encode" and isinstance(arguments[0], str):  # bytes, as newer Pythons write them for old
        return arguments[0].encode("latin-1")
    if made.name == "__builtin__ bytes" and not arguments:
        return b""
    if made.name not in {*_ARRAY, *_SCALAR, "numpy dtype"}:
        raise _RefusedError(f"a call of {made.name!r:.120}")
    return _Made(made.name, arguments)


def _since_mark(stack: list[Any]) -> list[Any]:
    taken = []
    while (value := stack.pop()) is not _MARK:
        taken.append(value)
    return taken[::-1]


def _pairs(values: list[Any]) -> dict[Any, Any]:
    if any(isinstance(key, tuple) for key in values[::2]):  # whose hash, of tuples within tuples, takes for ever
        raise _RefusedError("a table by tuples")
    return dict(zip(values[::2], values[1::2], strict=True))


def _plain(value: Any, done: dict[int, Any] | None = None) -> Any:
    """The value with arrays put together; what stands there several times is gone through once."""
    done = {} if done is None else done
    if not isinstance(value, (dict, list, tuple, _Made)):
        return value
    if id(value) not in done:
        if isinstance(value, dict):
            done[id(value)] = {key: _plain(inner, done) for key, inner in value.items()}
        elif isinstance(value, (list, tuple)):
            done[id(value)] = type(value)(_plain(inner, done) for inner in value)
        else:
            done[id(value)] = _number_or_array(value)
    return done[id(value)]


def _number_or_array(made: _Made) -> Any:
    if made.name in _SCALAR:
        return np.frombuffer(_plain(made.arguments[1]), _dtype(made.arguments[0]))[0].item()
    if made.name not in _ARRAY or made.state is None:
        raise _RefusedError(f"a {made.name!r:.120}")
    _, shape, dtype, fortran, data = made.state
    array = np.frombuffer(_plain(data), _dtype(dtype))
    return array.reshape(tuple(int(n) for n in shape), order="F" if fortran else "C")


def _dtype(made: Any) -> np.dtype[Any]:
    """The type of numbers, of those that are plain."""
    kind = made.arguments[0] if isinstance(made, _Made) and made.name == "numpy dtype" else None
    name = kind.decode() if isinstance(kind, bytes) else kind
    if name not in _KINDS:
        raise _RefusedError(f"an array of {name if isinstance(name, str) else 'objects'!r:.80}")
    if made.state and made.state[1] in (">", b">"):
        raise _RefusedError("numbers with their bytes the other way round")
    return np.dtype(name)

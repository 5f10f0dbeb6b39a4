"""A model that somebody holds in their hands: as an encoder, its copies, and the parts that answer by themselves."""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from modules.attacks.base import Classifier
from modules.encoders.base import ImageEncoder

MOST_PARTS = 4  # more than that are layers, not models
APART = 2.25 / 255  # how far images are moved, off the grid of grey levels, to tell parts from the whole
_Call = tuple[Any, Tensor]  # arguments and result
ALIKE = 1e-4  # of the largest logit: two parts that answer alike are one


class PlainHead(nn.Module):
    """The head of a model that gives logits itself: the identity.

    Args:
        classes: K names.
    """

    def __init__(self, classes: Sequence[str], /) -> None:
        super().__init__()
        self.classes = list(classes)

    def forward(self, z: Tensor) -> Tensor:
        """z [B, K] itself."""
        return z


class LogitsEncoder(ImageEncoder):
    """Any classifier as an encoder, whose embeddings are its logits.

    Attributes:
        parts: what answers by itself inside it, once ``find_parts`` has looked.

    Args:
        classifier: pixels [B, C, H, W] in [0, 1] -> logits [B, K].
        classes: K.
        size: H = W.
    """

    anchor: Tensor

    def __init__(self, classifier: Classifier, classes: int, size: int, /) -> None:
        super().__init__()
        self.classifier = classifier
        self.anchor = nn.Parameter(torch.zeros(()))  # gives a device to functions that have none
        own = next(classifier.parameters(), None) if isinstance(classifier, nn.Module) else None
        if own is not None:
            self.to(own.device)
        self.embedding_dim, self.image_size = classes, size
        self._parts: list[Part] = []

    @property
    def adapts(self) -> str:
        """After what a classifier that adapts at test time is put back (``eval.adapting``); empty for all others."""
        return str(getattr(self.classifier, "adapts", ""))

    @property
    def parts(self) -> list[ImageEncoder]:
        """Encoders of the parts found, each a stand-in for the whole."""
        return list(self._parts)

    def encode_image(self, x: Tensor) -> Tensor:
        """Logits [B, K]."""
        return self.classifier(x)

    def find_parts(self, x: Tensor) -> None:
        """Note which modules inside give logits of their own on the way to the answers about x [B, C, H, W].

        A copy is asked, so that a classifier that remembers is left as it was; one that cannot be copied is not asked.
        """
        try:
            twin = copy.deepcopy(self)
            signs = 1 - 2 * (torch.arange(x[0].numel(), device=x.device) * 7 % 3 % 2).view_as(x[0]).to(x.dtype)
            shown = [x, (x + APART * signs).clamp(0.0, 1.0)]
            found = _answering(twin.classifier, dict(modules_within(twin.classifier)), shown, self.embedding_dim)
        except Exception:  # a stranger's class may fail in any way, and says so where it is judged
            return
        mine = dict(modules_within(self.classifier))
        self._parts = [Part(self, mine[name], name) for name in found[:MOST_PARTS] if name in mine]

    def __deepcopy__(self, memo: dict[int, Any]) -> LogitsEncoder:
        """A copy whose classifier is one too, also where that is a function (``copied``)."""
        twin = LogitsEncoder(copied(self.classifier, memo), self.embedding_dim, self.image_size)
        twin.to(self.anchor.device).train(self.training)
        mine, its = dict(self.named_parameters()), dict(twin.named_parameters())
        for name, parameter in its.items():
            parameter.requires_grad_(mine[name].requires_grad)
        within = dict(modules_within(twin.classifier))
        twin._parts = [Part(twin, within[part.name], part.name) for part in self._parts if part.name in within]
        return twin


class Part(ImageEncoder):
    """What a module inside a classifier answers while the classifier looks at images, averaged over its calls.

    Where its answers have no gradient, because something before it cuts it off, the module is asked again about the
    pixels themselves: their values are those it was shown, their gradient passes by what was cut (arXiv:1802.00420).

    Args:
        whole: the classifier.
        module: inside it.
        name: of the module.
    """

    def __init__(self, whole: LogitsEncoder, module: nn.Module, name: str, /) -> None:
        super().__init__()
        self._held = (whole, module)  # not registered: they have a place already
        self.anchor, self.name = whole.anchor, name
        self.embedding_dim, self.image_size = whole.embedding_dim, whole.image_size

    def encode_image(self, x: Tensor) -> Tensor:
        """Answers [B, K] of the part."""
        whole, module = self._held
        calls: list[_Call | None] = []
        with _listening(module, self.embedding_dim, calls):
            whole.classifier(x)
        heard = [(args, out) for args, out in filter(None, calls) if len(out) == len(x)]
        if not heard:  # it was shown some of the images only
            return module(x)
        return torch.stack([self._with_a_gradient(x, args, out) for args, out in heard]).mean(dim=0)

    def _with_a_gradient(self, x: Tensor, args: Any, out: Tensor) -> Tensor:
        shown = args[0] if args else None
        if not x.requires_grad or out.requires_grad or not isinstance(shown, Tensor) or shown.shape != x.shape:
            return out
        with torch.enable_grad():
            return self._held[1](x + (shown - x).detach())


@contextmanager
def _listening(module: nn.Module, classes: int, calls: list[_Call | None]) -> Iterator[None]:
    """Note a module's calls inside; of one that gave no logits [B, K] only that it was made, since layers are large."""

    def note(_: nn.Module, args: Any, out: Any) -> None:
        calls.append((args, out) if _is_logits(out, classes) else None)

    handle = module.register_forward_hook(note)
    try:
        yield
    finally:
        handle.remove()


def _is_logits(out: Any, classes: int) -> bool:
    return isinstance(out, Tensor) and out.dim() == 2 and out.shape[1] == classes and out.is_floating_point()


@torch.no_grad()
def _answering(
    classifier: Classifier, modules: dict[str, nn.Module], shown: Sequence[Tensor], classes: int
) -> list[str]:
    """Names of the modules whose answers [B, K] about the batches shown are not the classifier's or one another's."""
    heard: dict[str, list[_Call | None]] = {name: [] for name in modules}
    with ExitStack() as stack:
        for name, module in modules.items():
            stack.enter_context(_listening(module, classes, heard[name]))
        answers = torch.cat([classifier(x) for x in shown])
    seen: list[Tensor] = [answers]
    found = []
    for name, calls in heard.items():
        logits = [out for _, out in filter(None, calls)]
        if not calls and not any(name.startswith(f"{other}.") for other in heard if not heard[other]):
            logits = _asked_alone(modules[name], shown, classes)
        if not logits:
            continue
        said = torch.cat(logits).float()
        if all(said.shape != other.shape or not _alike(said, other.float()) for other in seen):
            seen.append(said)
            found.append(name)
    return found


def _asked_alone(module: nn.Module, shown: Sequence[Tensor], classes: int) -> list[Tensor]:
    """What a module that nobody asked says of pixels, where it takes them; a router may ask it another time."""
    try:
        answers = [module(x) for x in shown]
    except Exception:  # it takes no pixels
        return []
    return answers if all(_is_logits(out, classes) for out in answers) else []


def _alike(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= ALIKE * b.abs().max().clamp_min(1e-12))


def modules_within(victim: object) -> Iterator[tuple[str, nn.Module]]:
    """Modules that a callable reaches, with names: its own, those of its closure, of what it binds, and in containers.

    Args:
        victim: a module, a function, a ``functools.partial``, a bound method.
    """
    yield from _within(victim, "", set())


def _within(value: object, name: str, seen: set[int]) -> Iterator[tuple[str, nn.Module]]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, nn.Module):
        if name:
            yield name, value
        for key, child in value._modules.items():
            yield from _within(child, f"{name}.{key}".lstrip("."), seen)
    for key, inner in _held_by(value):
        yield from _within(inner, f"{name}.{key}".lstrip("."), seen)


def _held_by(value: object) -> list[tuple[str, object]]:
    """What a callable or a container holds, by name."""
    if isinstance(value, dict):
        return [(str(key), inner) for key, inner in value.items()]
    if isinstance(value, list | tuple):
        return [(str(number), inner) for number, inner in enumerate(value)]
    if isinstance(value, functools.partial):
        return [("func", value.func), *_held_by(value.args), *_held_by(value.keywords)]
    if isinstance(value, types.MethodType):
        return [("self", value.__self__), ("func", value.__func__)]
    if isinstance(value, types.FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        return [*((key, _content(cell)) for key, cell in cells), *_globals_of(value).items()]
    own = getattr(value, "__dict__", None)
    if isinstance(value, nn.Module) or (callable(value) and own and not isinstance(value, type | types.ModuleType)):
        return [(key, inner) for key, inner in cast(dict[str, Any], own).items() if not key.startswith("_")]
    return []


def _content(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _globals_of(function: types.FunctionType) -> dict[str, object]:
    """Globals that a function names and that hold state: neither modules of Python, classes nor builtins."""
    named = {name: function.__globals__[name] for name in function.__code__.co_names if name in function.__globals__}
    plain = (type, types.ModuleType, types.BuiltinFunctionType, str, int, float, bool, type(None))
    return {name: value for name, value in named.items() if not isinstance(value, plain)}


def copied(victim: Callable[..., Any], memo: dict[int, Any] | None = None) -> Callable[..., Any]:
    """A copy of a callable with all that it holds; of a function, with its closure and the globals that it names.

    Raises:
        Exception: whatever a part of it raises that cannot be copied.
    """
    memo = {} if memo is None else memo
    if id(victim) in memo:
        return memo[id(victim)]
    if isinstance(victim, functools.partial):
        args = [copied(v, memo) for v in victim.args]
        return functools.partial(
            copied(victim.func, memo), *args, **{k: copied(v, memo) for k, v in victim.keywords.items()}
        )
    if not isinstance(victim, types.FunctionType) or victim.__module__.split(".")[0] == "torch":
        return copy.deepcopy(victim, memo)
    cells = tuple(types.CellType() for _ in victim.__closure__ or ())
    state = dict(victim.__globals__)
    twin = types.FunctionType(victim.__code__, state, victim.__name__, victim.__defaults__, cells)
    twin.__kwdefaults__ = victim.__kwdefaults__
    memo[id(victim)] = twin
    for cell, original in zip(cells, victim.__closure__ or (), strict=True):
        if (content := _content(original)) is not None:
            cell.cell_contents = copied(cast(Any, content), memo)
    state.update({name: copied(cast(Any, value), memo) for name, value in _globals_of(victim).items()})
    return twin

"""What text towers have said, so that nobody asks twice: 1,000 classes in 80 templates are 80,000 texts."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from modules.encoders.fingerprint import fingerprint

log = logging.getLogger(__name__)

WORTH = 1000
"""Texts from which on an answer is kept on disk; fewer are encoded sooner than a large tower is named."""

_PROBE = ("a photo of a dog.", "seven")  # what they become tells activations, kernels and tokenisers apart
_BYTES = 2**28  # in memory
_FILES = 64


class TextMemory:
    """Answers of text towers, by tower and question, equal bit for bit to asking again.

    A tower's name covers its weights, what it computes of two texts, torch's version, the device and its threads: where
    one of them differs, it is asked anew.  What has no weights, or is on the meta device, is always asked.

    Args:
        folder: where large answers outlast the process; None keeps none.  A damaged file is told and replaced.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._answers: OrderedDict[str, Tensor] = OrderedDict()
        self._names: WeakKeyDictionary[nn.Module, tuple[Any, str]] = WeakKeyDictionary()

    def recall(
        self, text: Any, kind: str, words: Sequence[Sequence[str]], ask: Callable[[], Tensor], *, texts: int = 1
    ) -> Tensor:
        """What ``ask`` gives, or gave before.

        Args:
            text: the tower.
            kind: of the question.
            words: all that the answer depends on beside the tower.
            ask: has the tower encode the texts.
            texts: how many these are.
        """
        name = self._name_of(text)
        if name is None:
            return ask()
        key = blake2b(json.dumps([name, kind, [list(part) for part in words]]).encode(), digest_size=16).hexdigest()
        device = next(text.parameters()).device
        found = self._answers.get(key)
        path = self.folder / f"{key}.safetensors" if self.folder is not None and texts >= WORTH else None
        if found is None and path is not None:
            found = _read(path, key)
        if found is None:
            found = ask().detach().cpu()
            if path is not None:
                _write(path, key, found)
        self._keep(key, found)
        return found.to(device, copy=True)

    def _keep(self, key: str, answer: Tensor) -> None:
        self._answers[key] = answer
        self._answers.move_to_end(key)
        while len(self._answers) > 1 and sum(kept.nbytes for kept in self._answers.values()) > _BYTES:
            self._answers.popitem(last=False)

    def _name_of(self, text: Any) -> str | None:
        """The tower's name, computed anew when one of its tensors is another or was written to."""
        tensors = list(text.state_dict().values()) if isinstance(text, nn.Module) else []
        if not tensors or any(tensor.is_meta or tensor.is_inference() for tensor in tensors):
            return None
        now = (torch.get_num_threads(), *((t.data_ptr(), t._version, t.device) for t in tensors))
        named = self._names.get(text)
        if named is None or named[0] != now:
            named = self._names[text] = (now, _name(text, tensors[0].device))
        return named[1]


def _name(text: Any, device: torch.device) -> str:
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} {torch.get_num_threads()}"
    said = text.encode_text(list(_PROBE)).detach().cpu().contiguous()
    digest = blake2b(said.view(torch.uint8).numpy().tobytes(), digest_size=8).hexdigest()
    return " ".join([fingerprint(text), digest, str(torch.__version__), where])


def _digest(answer: Tensor) -> str:
    return blake2b(answer.contiguous().view(torch.uint8).numpy().tobytes(), digest_size=16).hexdigest()


def _read(path: Path, key: str) -> Tensor | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            answer: Tensor = file.get_tensor("answer")
            said = file.metadata() or {}
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError) as error:
        log.warning("%s is damaged (%s); its texts are encoded anew", path, error)
        return None
    if said != {"question": f"{key} {_digest(answer)}"}:
        log.warning("%s is damaged; its texts are encoded anew", path)
        return None
    with suppress(OSError):
        os.utime(path)  # used last
    return answer


def _write(path: Path, key: str, answer: Tensor) -> None:
    """Keep an answer, whole or not at all; those used longest ago make room.  A disk that refuses is no fault."""
    from safetensors.torch import save

    content = save({"answer": answer.contiguous()}, {"question": f"{key} {_digest(answer)}"})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        files = sorted(path.parent.glob("*.safetensors"), key=lambda file: -file.stat().st_mtime_ns)
        for file in files[_FILES:]:
            file.unlink(missing_ok=True)
    except OSError as error:
        log.info("%s cannot be kept (%s)", path, error)

"""``robustclip model inspect`` says what a file is, and refuses what would run code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from modules.encoders.tiny import WEIGHTS
from tests.launch.typed import typed
from tests.modules.encoders.foreign import as_transformers, new_clip, write_hub
from tests.modules.evil import ATTACKS, plant
from tests.modules.prior.goldens import FOLDER


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The command in this process: exit code, lines of standard error, standard output."""

    def run(*arguments: object) -> tuple[int, list[str], str]:
        monkeypatch.setenv("COLUMNS", "160")
        code = typed(monkeypatch, "model", "inspect", *arguments)
        told = capsys.readouterr()
        return code, told.err.splitlines(), told.out

    return run


def test_a_whole_clip_is_described_in_every_container(here: Any, tmp_path: Path) -> None:
    state = new_clip().state_dict()
    torch.save({"state_dict": {f"module.{n}": v for n, v in state.items()}, "epoch": 1}, tmp_path / "zip.pt")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    save_file(as_transformers(state), tmp_path / "leaf.safetensors")
    write_hub(tmp_path / "hub", new_clip())
    names = {"zip.pt": "open_clip", "old.pt": "open_clip", "leaf.safetensors": "transformers", "hub": "open_clip"}
    for name, known in names.items():
        code, errors, out = here(tmp_path / name, "--json")
        found = json.loads(out)
        assert (code, errors, found["format"], found["would_call"]) == (0, [], known, [])
        assert found["image_tower"]["architecture"] == {
            "kind": "vit",
            "embedding_dim": 24,
            "width": 48,
            "layers": 2,
            "patch_size": 8,
            "image_size": 32,
        }
        assert found["text_tower"]["tensors"] == sum(not name.startswith("visual.") for name in state)
        assert found["not_finite"] == [] and len(found["sha256"]) == 64
        assert found["image_tower"]["parameters"] == sum(v.numel() for n, v in state.items() if n.startswith("visual."))


def test_people_get_a_table(here: Any) -> None:
    code, errors, out = here(WEIGHTS)
    assert (code, errors) == (0, [])
    for part in ("a CLIP in open_clip's names", "safetensors", "float16", "width 128", "tiny", "said: data"):
        assert part in out


def test_priors_are_named(here: Any) -> None:
    code, _, out = here(FOLDER / "trainer-1.15.6.pth")
    assert code == 0 and "a DiffusionPrior" in out and "convert-prior" in out


def test_numbers_that_are_not_finite_are_named(here: Any, tmp_path: Path) -> None:
    state = new_clip().visual.state_dict() | {"proj": torch.full((48, 24), torch.inf)}
    torch.save(state, tmp_path / "w.pt")
    assert "NO, in 1 tensors: proj" in here(tmp_path / "w.pt")[2]


@pytest.mark.parametrize("as_json", [False, True])
def test_code_is_shown_and_refused(as_json: bool, here: Any, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = plant(tmp_path / "evil.pt", ATTACKS[0][0], mark)
    code, errors, out = here(path, *(["--json"] if as_json else []))
    assert code == 2 and len(errors) == 2
    assert "would call: posix.system('touch" in errors[0] and "nothing of it was run" in errors[1]
    assert not as_json or json.loads(out)["would_call"]
    assert not mark.exists()


def test_code_in_a_folder_is_found(here: Any, tmp_path: Path) -> None:
    folder = tmp_path / "epoch_1"
    folder.mkdir()
    mark = tmp_path / "mark"
    import pickle

    (folder / ".metadata").write_bytes(pickle.dumps(ATTACKS[0][0](mark), 2))
    code, errors, _ = here(folder)
    assert code == 2 and "posix.system" in errors[0] and not mark.exists()


def test_a_program_is_refused(here: Any, tmp_path: Path) -> None:
    path = plant(tmp_path / "jit.pt", lambda mark: 1, tmp_path / "mark")
    import zipfile

    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/constants.pkl", b"\x80\x02N.")
    code, errors, _ = here(path)
    assert code == 2 and "TorchScript" in errors[0]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nothing.pt", "nothing at nothing.pt"),
        ("text.pt", "is damaged"),
        ("x.zip", "choose one of"),
        (".", "without weights"),
    ],
)
def test_what_is_no_checkpoint_costs_a_line(
    name: str, told: str, here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.pt").write_text("hello")
    Path("x.zip").write_bytes(b"PK")
    code, errors, _ = here(name)
    assert code == 2 and len(errors) == 1 and told in errors[0]

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import data
from tests.waiting import CEILING

FILES = sorted(Path(data.__path__[0]).glob("*.py"))
FORBIDDEN = {
    *("torchvision", "torchmetrics", "pytorch_lightning", "lightning", "open_clip"),
    *("modules", "configs", "eval", "train", "launch"),
    *("pickle", "dill", "joblib"),
}


def test_data_imports_nothing_from_above_and_no_pickle() -> None:
    assert len(FILES) > 10
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            roots = {name.split(".")[0] for name in names}
            assert not roots & FORBIDDEN, f"{path.name}: {roots & FORBIDDEN}"


def test_no_file_reads_the_global_random_state() -> None:
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        for source in ("import random", "np.random", "torch.rand", "manual_seed_all"):
            assert source not in text, f"{path.name}: {source}"


def test_importing_the_floor_loads_no_heavy_package() -> None:
    leaves_out = ("__init__", "terminal")  # what prints is imported where something is printed
    modules = ", ".join(f"data.{path.stem}" for path in FILES if path.stem not in leaves_out)
    heavy = ["sklearn", "webdataset", "torchvision", "open_clip", "pytorch_lightning", "rich"]
    code = f"import sys, {modules}; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=FILES[0].parent.parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=CEILING,
    )
    assert run.stdout.strip() == "[]"

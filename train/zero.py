"""DeepSpeed's ZeRO (arXiv:1910.02054) behind Lightning: on the CPU too, with whole weights and plain checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.accelerators import CUDAAccelerator
from pytorch_lightning.plugins.precision import DeepSpeedPrecision
from pytorch_lightning.strategies import DeepSpeedStrategy, Strategy
from torch import Tensor
from torch.optim import Optimizer

from modules.lightning.sharding import whole_state
from train.zero_state import load_adam_state, load_weights, whole_adam_state

_BUCKET = 50_000_000  # numbers that travel together


def zero_strategy(stage: int, *, precision: str, patience: timedelta) -> ZeRO:
    """The strategy of a ZeRO stage.

    Args:
        stage: 1 shares the optimizer's states among the processes, 2 the gradients too, 3 the weights too.
        precision: ``32-true`` or ``bf16-mixed``.
        patience: how long processes wait for each other.
    """
    config = {
        "zero_allow_untested_optimizer": True,
        "train_micro_batch_size_per_gpu": 1,  # only for DeepSpeed's own speed log
        "zero_optimization": {
            "stage": stage,
            "contiguous_gradients": True,
            "overlap_comm": torch.cuda.is_available(),
            "reduce_bucket_size": _BUCKET,
            "allgather_bucket_size": _BUCKET,
            "stage3_param_persistence_threshold": 0,  # averages of weights are kept part by part
        },
    }
    return ZeRO(config=config, precision_plugin=WholeWeights(precision), timeout=patience)  # pyright: ignore[reportArgumentType]


class WholeWeights(DeepSpeedPrecision):
    """Weights and pixels stay in single precision; ``bf16-mixed`` computes under autocast, as without DeepSpeed.

    Lightning's own would round both to bfloat16, in which neither 1/255 nor an update of Adam fits.
    """

    def convert_input(self, data: Any) -> Any:
        """The batch as it is."""
        return data

    def backward(self, tensor: Tensor, model: Any, optimizer: Any, *args: Any, **settings: Any) -> None:
        """Gradients of the mean over accumulated batches: Lightning and DeepSpeed both divide by their number."""
        super().backward(tensor * model.trainer.accumulate_grad_batches, model, optimizer, *args, **settings)

    def forward_context(self) -> AbstractContextManager[Any]:
        """Autocast, for what runs outside DeepSpeed's engine too, such as a validation."""
        if self.precision != "bf16-mixed":
            return nullcontext()
        return torch.autocast("cuda" if torch.cuda.is_available() else "cpu", dtype=torch.bfloat16)


class ZeRO(DeepSpeedStrategy):
    """DeepSpeed without its own checkpoint folders, which hold pickles and fit one number of processes only.

    Its checkpoint is the file that one process would have written.  On a CPU, which Lightning refuses, the processes
    talk by gloo.
    """

    _initialising = False

    @property
    def root_device(self) -> torch.device:
        """The device; DeepSpeed wants a number for that of a CPU too."""
        device = super().root_device
        if device.type == "cpu" and self._initialising:
            return torch.device("cpu", self.local_rank)
        return device

    @root_device.setter
    def root_device(self, device: torch.device) -> None:
        raise AssertionError("the devices say which one it is")

    def setup_environment(self) -> None:
        """Lightning's own but for its refusal of the CPU."""
        if isinstance(self.accelerator, CUDAAccelerator):
            super().setup_environment()
            return
        import deepspeed  # pyright: ignore[reportMissingImports]

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # no compiler, and no minute of compiling
        super(DeepSpeedStrategy, self).setup_environment()

    def setup_distributed(self) -> None:
        """Lightning's own but for its look at the numbers of GPUs."""
        if isinstance(self.accelerator, CUDAAccelerator):
            super().setup_distributed()
            return
        self.set_world_ranks()
        self._init_deepspeed_distributed()

    def _format_config(self) -> None:
        self._format_batch_size_and_grad_accum_config()
        assert isinstance(self.config, dict)
        if self.precision_plugin.precision == "bf16-mixed":
            autocast = {"enabled": True, "dtype": "bfloat16", "lower_precision_safe_modules": []}
            self.config["torch_autocast"] = autocast  # gradients still travel in single precision

    def _init_optimizers(self) -> Any:
        optimizer, scheduler = super()._init_optimizers()
        self._trained = [list(group["params"]) for group in optimizer.param_groups]  # DeepSpeed puts others there
        return optimizer, scheduler

    def _setup_model_and_optimizer(self, *args: Any, **settings: Any) -> Any:
        self._initialising = True
        try:
            return super()._setup_model_and_optimizer(*args, **settings)
        finally:
            self._initialising = False

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Whole weights; every process must ask."""
        assert self.lightning_module is not None
        return whole_state(self.lightning_module)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Tensor]:
        """The state that AdamW on one process would have; every process must ask."""
        return whole_adam_state(optimizer, self._trained)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None) -> None:
        """One file, written by the first process."""
        Strategy.save_checkpoint(self, checkpoint, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """The content of one file."""
        return Strategy.load_checkpoint(self, checkpoint_path, weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Put whole weights where DeepSpeed keeps them."""
        assert self.lightning_module is not None
        load_weights(self.lightning_module, self.optimizers[0], checkpoint["state_dict"])

    @property
    def lightning_restore_optimizer(self) -> bool:
        """DeepSpeed restores nothing itself."""
        return True

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Put whole states where DeepSpeed keeps them."""
        load_adam_state(self.optimizers[0], self._trained, checkpoint["optimizer_states"][0])

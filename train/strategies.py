"""How a training is spread over processes: a recipe's word into Lightning's strategy."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy, Strategy

from configs.files import ConfigError
from configs.schema import TrainerConfig
from configs.strategies import strategy_faults

PATIENCE = timedelta(hours=12)
"""How long processes wait for each other, for instance for the first one that looks at data."""


def strategy_of(config: TrainerConfig, kind: str) -> str | Strategy:
    """Lightning's strategy of a recipe.

    All of them write one and the same checkpoint: a file with whole weights and optimizer states, from which a run may
    go on with any other strategy and number of processes.

    Args:
        config: of the trainer.
        kind: ``finetune``, ``prior`` or ``pretrain``.

    Raises:
        ConfigError: this kind cannot be trained so, or a library is missing.
    """
    faults = strategy_faults(kind, vars(config))
    if faults:
        raise ConfigError("\n".join(faults))
    name = config.strategy
    if name == "auto":
        name = "ddp" if _several_processes(config) else "auto"
    if name == "ddp":
        return DDPStrategy(
            timeout=PATIENCE,
            gradient_as_bucket_view=True,
            find_unused_parameters=False,
        )
    if name == "fsdp2":
        return WholeFSDP2()
    if name.startswith("zero"):
        from train.zero import zero_strategy

        return zero_strategy(int(name[-1]), precision=config.precision, patience=PATIENCE)
    return name


class WholeFSDP2(ModelParallelStrategy):
    """FSDP2 over all processes, with checkpoints in one file; ``configure_model`` cuts the weights up."""

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False, timeout=PATIENCE)

    def setup_environment(self) -> None:
        """Only now is it known how many processes there are."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()


def _several_processes(config: TrainerConfig) -> bool:
    """Whether more than one process will train."""
    return config.num_nodes > 1 or _devices(config.devices, config.accelerator) > 1


def _devices(said: Any, accelerator: str) -> int:
    there = torch.cuda.device_count() if accelerator in ("auto", "gpu", "cuda") else 1
    text = str(said).strip("[] ")
    if text in ("auto", "-1"):
        return there
    if "," in text:
        return len([part for part in text.split(",") if part.strip()])
    return int(text) if text.isdigit() else 1

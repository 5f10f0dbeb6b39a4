"""Where a job runs: here, under torchrun, under SLURM, under DeepSpeed's launcher."""

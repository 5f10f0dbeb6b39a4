"""The LightningModules; the only place in ``modules`` that knows Lightning."""

"""``robustclip finetune``: a CLIP goes in, an R-CLIP_F comes out, every checkpoint evaluated on the way."""

from __future__ import annotations

import copy
import time
from pathlib import Path

from pytorch_lightning.callbacks import Callback

from configs.evaluation import evaluation_config, judged_while_training
from configs.families import ATTACKS, OBJECTIVES
from configs.files import ConfigError
from configs.load import plain
from configs.schema import FinetuneConfig
from data.source import ImageSource, prompts_fault
from data.targeted import TargetedImages
from eval.callback import EvaluateCheckpoints
from eval.evaluate import load_model
from eval.framing import framing_of
from eval.plan import build_plan
from modules.checkpoint import save_tower
from modules.encoders.clip import CLIP, CLIPEncoder
from modules.lightning.finetuning import AdversarialFineTuning
from modules.lightning.student import Compiled, keep_fewer_activations
from modules.perturb.threat import Threat
from modules.zero_shot import ZeroShotHead, zero_shot_head
from train.datamodules import training_images
from train.runs import Run, base_of, identity_of
from train.targets import FrozenTargets
from train.trainer import fit, optimizer_settings

EXPORT = "encoder.safetensors"


def finetune(run: Run) -> Path:
    """The file of the fine-tuned image tower.

    Build, build, build, fit, export.  A run that was interrupted goes on from its newest checkpoint.

    Raises:
        ValueError: model, data, objective or evaluation cannot be built; the line says which and why.
    """
    config: FinetuneConfig = run.config
    export = run.folder / "export" / EXPORT
    if run.finished:
        return export
    begin = time.perf_counter()

    clip = load_model(config.model)
    data = config.data
    source = training_images(data, framing_of(clip.image), labeled=trains_on_labels(config))
    module = build_module(config, clip, source)
    callbacks: list[Callback] = []
    if data.targets is not None:
        source = TargetedImages(source)
        callbacks.append(FrozenTargets(source, module.reference.encoder, config))
    if config.evaluation is not None and judged_while_training(config.evaluation):
        plan = build_plan(evaluation_config(config.evaluation, model=plain(config.model)), clip)
        whole = AdversarialFineTuning.whole_encoder
        every = config.trainer.checkpoint_every
        callbacks.append(EvaluateCheckpoints(plan, run.folder, name=config.encoder, encoder_of=whole, every=every))

    trainer = fit(
        module,
        source,
        run,
        max_steps=config.optimizer.max_steps,
        title=f"fine-tune {config.encoder}",
        kind="finetune",
        callbacks=callbacks,
    )
    encoder = module.whole_encoder()
    if trainer.is_global_zero:
        assert isinstance(encoder, CLIPEncoder)
        save_tower(encoder.visual, export, step=config.optimizer.max_steps, **module.identity)
        run.finish({"finetune": time.perf_counter() - begin})
    return export


def build_module(config: FinetuneConfig, clip: CLIP, source: ImageSource) -> AdversarialFineTuning:
    """The LightningModule of a recipe.

    Raises:
        ValueError: the objective looks at labels and the data has no two classes, or the architecture cannot compute
            activations anew.
    """
    threat = Threat(config.threat.norm, config.threat.eps)
    asked = trains_on_labels(config)
    fault = prompts_fault(source, source.classes, [config.train_template])
    if asked and fault:
        raise ConfigError(
            f"objective.name={config.objective['name']} trains on labels, and {config.data.shards} {fault}, "
            "or say objective.name=fare"
        )
    head = training_head(config, clip, source) if asked else None
    reference = copy.deepcopy(clip.image)
    if config.trainer.checkpointing:
        keep_fewer_activations(clip.image)
    return AdversarialFineTuning(
        clip.image.train(),
        reference,
        OBJECTIVES.build(config.objective, head=head),
        ATTACKS.build(config.attack, threat=threat),
        settings=optimizer_settings(config.optimizer),
        seed=config.seed,
        student=Compiled(clip.image) if config.trainer.compile else None,
        identity=identity_of(
            config,
            encoder=config.encoder,
            base=base_of(config.model),
            image_size=clip.image.image_size,
            objective=config.objective["name"],
            threat={"norm": threat.norm, "eps": threat.eps},
        ),
    )


def trains_on_labels(config: FinetuneConfig) -> bool:
    """Whether the objective looks at the classes of the images."""
    return "head" in OBJECTIVES.needs(config.objective)


def training_head(config: FinetuneConfig, clip: CLIP, source: ImageSource) -> ZeroShotHead:
    """The head of the training classes, one template, cosines times 100 as TeCoA is trained."""
    if clip.text is None:
        raise ValueError(f"{clip.name} has no text tower, and the objective looks at classes; say objective.name=fare")
    return zero_shot_head(clip.text, source.classes, [config.train_template], logit_scale=100.0)

"""What each kind of recipe may say, and what it says where it is silent."""

from __future__ import annotations

from configs.schema.evaluation import CascadeName as CascadeName
from configs.schema.evaluation import CertifyConfig as CertifyConfig
from configs.schema.evaluation import CurveConfig as CurveConfig
from configs.schema.evaluation import EvaluateConfig as EvaluateConfig
from configs.schema.evaluation import InversionConfig as InversionConfig
from configs.schema.evaluation import ScorecardConfig as ScorecardConfig
from configs.schema.evaluation import StrengthConfig as StrengthConfig
from configs.schema.evaluation import TaskConfig as TaskConfig
from configs.schema.evaluation import ViewName as ViewName
from configs.schema.parts import MISSING as MISSING
from configs.schema.parts import DataConfig as DataConfig
from configs.schema.parts import ModelConfig as ModelConfig
from configs.schema.parts import OptimizerConfig as OptimizerConfig
from configs.schema.parts import ThreatConfig as ThreatConfig
from configs.schema.parts import TrainerConfig as TrainerConfig
from configs.schema.perceptual import PerceptualConfig as PerceptualConfig
from configs.schema.perceptual import TripletDataConfig as TripletDataConfig
from configs.schema.prior import DiffusionConfig as DiffusionConfig
from configs.schema.prior import EMAConfig as EMAConfig
from configs.schema.prior import EmbedConfig as EmbedConfig
from configs.schema.prior import NetworkConfig as NetworkConfig
from configs.schema.prior import PriorConfig as PriorConfig
from configs.schema.prior import PriorDataConfig as PriorDataConfig
from configs.schema.prior import ValidationConfig as ValidationConfig
from configs.schema.protocol import ProtocolConfig as ProtocolConfig
from configs.schema.protocol import ProtocolPartConfig as ProtocolPartConfig
from configs.schema.protocol import ProtocolSetConfig as ProtocolSetConfig
from configs.schema.training import FinetuneConfig as FinetuneConfig
from configs.schema.training import FinetuneDataConfig as FinetuneDataConfig
from configs.schema.training import PretrainConfig as PretrainConfig
from configs.schema.tuning import JudgedConfig as JudgedConfig
from configs.schema.tuning import RungConfig as RungConfig
from configs.schema.tuning import TuneConfig as TuneConfig
from configs.schema.tuning import TuneDataConfig as TuneDataConfig

KINDS: dict[str, type] = {
    "finetune": FinetuneConfig,
    "perceptual": PerceptualConfig,
    "prior": PriorConfig,
    "embed": EmbedConfig,
    "evaluate": EvaluateConfig,
    "scorecard": ScorecardConfig,
    "tune": TuneConfig,
    "protocol": ProtocolConfig,
    "pretrain": PretrainConfig,
}

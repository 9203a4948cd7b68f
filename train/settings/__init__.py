"""Settings of the training stages and of the engine. No torch here.

Fields that change what is learnt are part of a stage's identity; `EngineSettings` (but for precision and clipping)
only says how it is computed and is recorded, never hashed.
"""

from residency.train.settings.adapters import LoraSettings, PromptTuningSettings
from residency.train.settings.alignment import PreferenceSettings, RewardSettings, RlSettings
from residency.train.settings.engine import EngineSettings
from residency.train.settings.models import ExportSettings, MergeSettings, ScratchSettings, VocabSettings
from residency.train.settings.optimisation import GuardSettings, Optimisation
from residency.train.settings.sampling import SampleSettings, TreeSettings
from residency.train.settings.text import CptSettings, PretrainSettings, SftSettings, TextStage

__all__ = [
    "CptSettings",
    "EngineSettings",
    "ExportSettings",
    "GuardSettings",
    "LoraSettings",
    "MergeSettings",
    "ModelStage",
    "Optimisation",
    "PreferenceSettings",
    "PretrainSettings",
    "PromptTuningSettings",
    "RewardSettings",
    "RlSettings",
    "SampleSettings",
    "ScratchSettings",
    "SftSettings",
    "TextStage",
    "TrainingStage",
    "TreeSettings",
    "VocabSettings",
    "WritingStage",
]

TrainingStage = (
    PretrainSettings | CptSettings | SftSettings | RewardSettings | PreferenceSettings | RlSettings
)
"""Stages that train weights, under DeepSpeed."""
WritingStage = SampleSettings | TreeSettings
"""Stages that write replies and leave a corpus, on as many ranks as there are accelerators."""
ModelStage = VocabSettings | MergeSettings | ExportSettings
"""Stages that make a model without training, in the chain's process."""

"""The recipe: joins the rooms' settings into one strict model of one YAML file. No torch here.

`load` reads and validates a file; `json_schema` is what editors use (`residency schema`).
"""

from __future__ import annotations

import difflib
import json
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Field, StringConstraints, ValidationError, model_validator

from residency.data.settings import CorpusSettings, CurationSettings, Settings
from residency.errors import ResidencyError
from residency.eval.settings import EvaluateSettings, EvaluationSettings
from residency.recipes import corpora
from residency.recipes.reading import Path_, Raw, find, read
from residency.slurm.settings import ClusterSettings
from residency.train.settings import (
    CptSettings,
    EngineSettings,
    ExportSettings,
    MergeSettings,
    PreferenceSettings,
    PretrainSettings,
    RewardSettings,
    RlSettings,
    SampleSettings,
    ScratchSettings,
    SftSettings,
    TrainingStage,
    TreeSettings,
    VocabSettings,
)

Seed = Annotated[int, Field(ge=0)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
Stage = Annotated[
    PretrainSettings
    | VocabSettings
    | CptSettings
    | SftSettings
    | RewardSettings
    | PreferenceSettings
    | RlSettings
    | SampleSettings
    | TreeSettings
    | MergeSettings
    | EvaluateSettings
    | ExportSettings,
    Field(discriminator="kind"),
]


class ScratchBase(Settings):
    """A base that the recipe makes itself."""

    scratch: ScratchSettings
    """Shape and tokenizer of the new model."""


class HubBase(Settings):
    """A base from the hub, the mirror or a directory."""

    model: str
    """Hub id or directory."""
    revision: str | None = None
    """Commit on the hub; pin it to make the recipe reproducible."""
    trust_remote_code: Literal[False] = False
    """Code from a model repository is never run."""


class Recipe(Settings):
    """One chain from a base model to a verdict."""

    name: Name
    """Name of the run directory."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of every stage and corpus that gives none of its own."""
    seeds: Annotated[int, Field(gt=0)] | Annotated[list[Seed], Field(min_length=1)] | None = None
    """Training is repeated with so many seeds, counted from `seed`, or with these, `seed` first. Corpora and exams stay
    the same; the verdict tells how much lies between seeds. With one seed that is unknown."""
    base: str | HubBase | ScratchBase
    """The model that the chain starts from: a hub id, a directory, or a new one."""
    corpora: dict[Name, CorpusSettings] = {}
    """What the stages learn from."""
    stages: dict[Name, Stage]
    """The chain; `from` names the parent."""
    engine: EngineSettings = EngineSettings()
    """How training is computed; a stage may have its own."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """What is measured after which stage."""
    curation: CurationSettings = CurationSettings()
    """Who curates the corpora: processes of this machine, Slurm or Ray."""
    cluster: ClusterSettings = ClusterSettings()
    """What `residency submit` asks Slurm for."""
    track: list[Literal["wandb", "tensorboard", "trackio"]] = []
    """Where training curves go besides `events.jsonl`; needs `pip install "residency[track]"`."""

    @property
    def all_seeds(self) -> list[int]:
        """The seeds of training, the recipe's own first."""
        if isinstance(self.seeds, int):
            return list(range(self.seed, self.seed + self.seeds))
        return self.seeds or [self.seed]

    @model_validator(mode="after")
    def _seeds_differ(self) -> Recipe:
        seeds = self.all_seeds
        if seeds[0] != self.seed or len(set(seeds)) < len(seeds):
            raise ValueError(f"seeds = {seeds}: seed ({self.seed}) comes first, and each stands once")
        trained = [stage for stage in self.stages.values() if isinstance(stage, TrainingStage)]
        if len(seeds) > 1 and trained and all(stage.seed is not None for stage in trained):
            raise ValueError("seeds: every training stage has a seed of its own, so nothing would differ")
        return self


def load(path: Path, overrides: list[str] | None = None) -> Recipe:
    """The validated recipe of a file.

    Raises:
        ResidencyError: every fault with file, line, key and the nearest known key, one per line.
    """
    raw = read(path, overrides)
    corpora.resolve(raw, find(path).parent)
    try:
        return Recipe.model_validate(raw.values)
    except ValidationError as error:
        faults = [_explain(raw, fault) for fault in error.errors()]
        raise ResidencyError("\n".join(dict.fromkeys(faults))) from None


def json_schema() -> str:
    """JSON Schema of a recipe file, for editors: looser than `load`, since a recipe that extends another holds only
    what differs."""
    schema: dict[str, Any] = _loosened(Recipe.model_json_schema(by_alias=True))
    schema["properties"]["extends"] = {
        "type": "string",
        "description": "Another recipe that this one changes.",
    }
    needed = [field.alias or name for name, field in Recipe.model_fields.items() if field.is_required()]
    schema["anyOf"] = [{"required": ["extends"]}, {"required": needed}]
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=1) + "\n"


def _loosened(part: Any) -> Any:
    """No key is needed, and `null` takes an entry of a mapping away."""
    if isinstance(part, list):
        return [_loosened(each) for each in part]
    if not isinstance(part, dict):
        return part
    made = {key: _loosened(value) for key, value in part.items()}
    if isinstance(made.get("required"), list):
        del made["required"]
    if isinstance(made.get("oneOf"), list):  # without needed keys several may fit
        made["anyOf"] = made.pop("oneOf")
        made.pop("discriminator", None)
    if isinstance(made.get("additionalProperties"), dict):
        made["additionalProperties"] = _or_null(made["additionalProperties"])
    if "patternProperties" in made:
        made["patternProperties"] = {name: _or_null(each) for name, each in made["patternProperties"].items()}
    return made


def _or_null(part: Any) -> dict[str, Any]:
    return {"anyOf": [part, {"type": "null"}]}


def _explain(raw: Raw, fault: Any) -> str:
    path = _written_path(raw.values, fault["loc"])
    key, place = ".".join(map(str, path)), raw.place(path)
    known = _known_keys(Recipe, path[:-1], raw.values)
    match fault["type"]:
        case "extra_forbidden":
            return f"{place}: unknown key {key}{_nearest(str(path[-1]), known)}"
        case "missing":
            return f"{raw.place(path[:-1])}: {key} is missing"
        case "union_tag_invalid":
            kinds = [kind.strip(" '") for kind in fault["ctx"]["expected_tags"].split(",")]
            return f"{place}: unknown kind {fault['ctx']['tag']!r}{_nearest(fault['ctx']['tag'], kinds)}"
        case "union_tag_not_found":
            return f"{place}: {key}.kind is missing"
    said = fault["msg"].removeprefix("Value error, ")
    if isinstance(fault["input"], dict | list):  # about several keys at once
        key = ".".join(map(str, path if path in raw.places else path[:-1]))
        return f"{place}: {key}: {said}" if key else f"{place}: {said}"
    return f"{place}: {key} = {fault['input']!r}: {said}"


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f". Did you mean {close[0]}?"
    return f". Known: {', '.join(sorted(known))}" if known else ""


def _written_path(values: Any, location: tuple[str | int, ...]) -> Path_:
    """pydantic's location without the parts that name members of a union."""
    path: list[str | int] = []
    for index, part in enumerate(location):
        last = index == len(location) - 1
        if isinstance(values, dict) and part in values:
            values = values[part]
        elif isinstance(values, list) and isinstance(part, int) and part < len(values):
            values = values[part]
        elif not last or not isinstance(values, dict):
            continue
        path.append(part)
    return tuple(path)


def _known_keys(annotation: Any, path: Path_, values: Any) -> list[str]:
    """Keys that the model at `path` knows."""
    models = _models(annotation, values)
    if not path:
        return [field.alias or name for model in models for name, field in model.model_fields.items()]
    inner = values.get(path[0]) if isinstance(values, dict) else None
    if isinstance(path[0], int):
        items = get_args(get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation)
        return _known_keys(items[0], path[1:], values[path[0]]) if items else []
    if get_origin(annotation) is dict:
        return _known_keys(get_args(annotation)[1], path[1:], inner)
    for model in models:
        for name, field in model.model_fields.items():
            if (field.alias or name) == path[0]:
                return _known_keys(field.annotation, path[1:], inner)
    return []


def _models(annotation: Any, values: Any) -> list[type[BaseModel]]:
    """The models that an annotation may mean; a `kind` among the values chooses one."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        models = [model for member in get_args(annotation) for model in _models(member, values)]
        kind = values.get("kind") if isinstance(values, dict) else None
        return [
            m
            for m in models
            if "kind" in m.model_fields and kind in get_args(m.model_fields["kind"].annotation)
        ] or models
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []

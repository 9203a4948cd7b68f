"""The engine: from one typed block to DeepSpeed on NCCL or gloo ranks, and the proof that it is really there.

Order matters and is fixed here. `start` comes before transformers builds its arguments: on a machine without
accelerator, accelerate would otherwise see one process (or silently use plain DDP), so the process group is made
first and handed over.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from residency.artifact import RunPaths, StageFile
from residency.errors import Exit, ResidencyError
from residency.train.settings import EngineSettings

PEER_TIMEOUT = timedelta(minutes=30)
WRITER_TIMEOUT = timedelta(hours=24)  # the rank with the last batch keeps the others waiting


def start(*, trains: bool = True) -> tuple[int, int]:
    """Join the process group from torchrun's or srun's environment; returns rank and world size.

    Args:
        trains: DeepSpeed will run; else the ranks only agree on who does what.

    Raises:
        ResidencyError: RANK without WORLD_SIZE, or more local ranks than accelerators.
    """
    missing = [name for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK") if name not in os.environ]
    if missing:
        raise ResidencyError(
            f"{', '.join(missing)} not set",
            cure="Start with torchrun -m residency.train.worker STAGE_DIR, or srun",
        )
    import torch

    cuda = torch.cuda.is_available()
    if not cuda:
        os.environ["DS_ACCELERATOR"] = "cpu"
    elif int(os.environ["LOCAL_RANK"]) >= torch.cuda.device_count():
        raise ResidencyError(
            f"local rank {os.environ['LOCAL_RANK']} of {torch.cuda.device_count()} accelerators",
            cure="Lower engine.processes",
        )
    local_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("SLURM_NTASKS_PER_NODE", "1")))
    torch.set_num_threads(max(1, _cores() // local_ranks))
    try:
        _meet(trains, cuda)
    except torch.distributed.DistError as error:
        raise ResidencyError(f"the ranks did not meet: {error}", code=Exit.ENVIRONMENT) from error
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def _meet(trains: bool, cuda: bool) -> None:
    import torch

    if trains:
        os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
        from accelerate import PartialState

        PartialState(backend="nccl" if cuda else "gloo", timeout=PEER_TIMEOUT)
    else:
        if cuda:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        torch.distributed.init_process_group("gloo", timeout=WRITER_TIMEOUT)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def deepspeed_config(engine: EngineSettings, *, precision: str, clip: float, cuda: bool) -> dict[str, Any]:
    """The DeepSpeed JSON of an engine block; batch sizes are filled in by transformers ("auto")."""
    zero: dict[str, Any] = {"stage": engine.zero, "overlap_comm": cuda}
    if engine.zero == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
        # small parameters would stay whole on each rank otherwise, and a small model with them
        zero["stage3_param_persistence_threshold"] = 0
    if engine.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": cuda}
    if engine.offload_parameters:
        zero["offload_param"] = {"device": "cpu", "pin_memory": cuda}
    return {
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": clip,
        "bf16": {"enabled": precision == "bfloat16"},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
    }


def training_arguments(
    stage: StageFile, attempt: Path, world_size: int, rows: int, **more: Any
) -> dict[str, Any]:
    """Keyword arguments of transformers' TrainingArguments for `rows` rows (a multiple of the global batch)."""
    import torch

    from residency.model import resolve_precision
    from residency.train.batches import accumulation

    engine, settings = EngineSettings.model_validate(stage.execution["engine"]), stage.settings
    micro, accumulate = accumulation(stage.name, settings["batch_size"], engine, world_size)
    assert rows % settings["batch_size"] == 0, (rows, settings["batch_size"])
    steps = rows // settings["batch_size"]
    os.environ.setdefault(
        "TENSORBOARD_LOGGING_DIR", str(RunPaths(stage.run).logs / "tensorboard" / stage.name)
    )
    precision = "bfloat16" if resolve_precision(settings["precision"]) == torch.bfloat16 else "float32"
    return {
        "output_dir": str(attempt / "checkpoints"),
        "deepspeed": deepspeed_config(
            engine, precision=precision, clip=settings["clip"], cuda=torch.cuda.is_available()
        ),
        "accelerator_config": {"use_configured_state": True, "even_batches": False},
        "bf16": precision == "bfloat16",
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": accumulate,
        "gradient_checkpointing": engine.gradient_checkpointing,
        "learning_rate": settings["learning_rate"],
        "lr_scheduler_type": settings["schedule"]
        if settings["schedule"] != "constant"
        else "constant_with_warmup",
        "warmup_steps": round(settings["warmup"] * steps),
        "weight_decay": settings["weight_decay"],
        "adam_beta1": 0.9,
        "adam_beta2": settings["beta2"],
        "max_grad_norm": settings["clip"],
        "seed": settings["seed"],
        "num_train_epochs": 1,
        "save_strategy": "steps",
        "save_steps": stage.execution.get("save_every") or max(1, -(-steps // 4)),
        "save_total_limit": stage.execution["keep_checkpoints"],
        "logging_steps": 1 if not torch.cuda.is_available() else 10,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
        "report_to": stage.execution.get("track", []),
        "project": stage.run.name,
        "run_name": f"{stage.run.name}/{stage.name}",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_pin_memory": torch.cuda.is_available(),
        **more,
    }


def prove(trainer: Any, engine: EngineSettings, world_size: int) -> dict[str, Any]:
    """What really wrapped the model; for the manifest.

    `optimizer_bytes_per_rank` is this rank's share of the optimizer's state, about 1/world of the whole from ZeRO-1 on.
    """
    from deepspeed import DeepSpeedEngine

    wrapped = trainer.model_wrapped
    assert isinstance(wrapped, DeepSpeedEngine), (
        f"the model is wrapped by {type(wrapped).__name__}, not by DeepSpeed"
    )
    assert wrapped.zero_optimization_stage() == engine.zero, (wrapped.zero_optimization_stage(), engine.zero)
    assert wrapped.world_size == world_size == trainer.args.world_size, (wrapped.world_size, world_size)
    return {
        "class": type(wrapped).__name__,
        "zero": engine.zero,
        "world_size": world_size,
        "attention": trainer.model.config._attn_implementation,
        "precision": str(next(trainer.model.parameters()).dtype).removeprefix("torch."),
        "optimizer_bytes_per_rank": optimizer_bytes(wrapped.optimizer),
    }


def optimizer_bytes(optimizer: Any) -> int:
    """Bytes of the state tensors (moments) that this rank holds."""
    inner = getattr(optimizer, "optimizer", optimizer)
    return sum(
        tensor.numel() * tensor.element_size()
        for state in inner.state.values()
        for tensor in state.values()
        if hasattr(tensor, "numel") and tensor.numel() > 1
    )

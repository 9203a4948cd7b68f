"""Trains stages with plain SGD instead of AdamW, many in one process group; started by torchrun.

    torchrun --nproc-per-node 2 tests/train/sgd_worker.py ATTEMPT...

Each attempt is trained as `residency.train.worker` would, but for the optimizer, and its weights and losses are left
in `<attempt>/sgd/`. With AdamW a wrongly scaled gradient would hardly show.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from residency.artifact import read_stage
from residency.train import engine
from residency.train.settings import EngineSettings


def main() -> None:
    rank, world_size = engine.start()
    from accelerate.state import AcceleratorState
    from transformers.integrations import unset_hf_deepspeed_config

    for attempt in map(Path, sys.argv[1:]):
        stage = read_stage(attempt)
        trainer, _ = importlib.import_module(f"residency.train.{stage.kind}").build(
            stage, attempt, world_size
        )
        trainer.args.optim = "sgd"
        trainer.train()
        engine.prove(trainer, EngineSettings.model_validate(stage.execution["engine"]), world_size)
        trainer.save_model(str(attempt / "sgd"))
        (attempt / "sgd").mkdir(exist_ok=True)  # under ZeRO-3 rank 0 gathers and writes later than the others
        if rank == 0:
            losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
            (attempt / "sgd" / "losses.json").write_text(json.dumps(losses))
        AcceleratorState._reset_state()  # the next attempt has another ZeRO stage
        unset_hf_deepspeed_config()


if __name__ == "__main__":
    main()

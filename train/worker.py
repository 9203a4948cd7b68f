"""One rank of a training stage: the program that `residency run`, torchrun and sbatch all start.

    torchrun --nproc-per-node 2 -m residency.train.worker runs/quickstart/sft-1a2b3c4d.attempt

It reads `stage.json`, checks the hand-off from its parents, trains (resuming from the newest whole checkpoint), and
rank 0 commits the artifact. The outcome goes to `attempt.json` too, because torchrun flattens exit codes to 1.
"""

from __future__ import annotations

import fcntl
import importlib
import logging
import os
import shutil
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from residency import events
from residency.artifact import (
    WRITING,
    RunPaths,
    StageFile,
    commit,
    own,
    read_attempt,
    read_manifest,
    read_stage,
    report_attempt,
    sha256,
)
from residency.data import passport
from residency.errors import Exit, ResidencyError
from residency.train import checkpoint, contract, engine, saving
from residency.train.settings import EngineSettings


def main(arguments: list[str] | None = None) -> None:
    """Entry of every rank; exits with a code of `residency.errors.Exit`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1:
        print("usage: torchrun -m residency.train.worker STAGE_DIR", file=sys.stderr)
        sys.exit(Exit.USER_INPUT)
    attempt = Path(arguments[0]).resolve()
    try:
        code = run(attempt)
    except ResidencyError as error:
        print(f"residency: {error}", file=sys.stderr, flush=True)
        _report(attempt, error.code, str(error))
        code = error.code
    except BaseException as error:
        traceback.print_exc()
        _report(attempt, *_judge(error))
        code = _judge(error)[0]
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # peers may be gone: the process group's own farewell would wait for them


def run(attempt: Path) -> Exit:
    """Train one stage on this rank, from start or from its newest checkpoint, to the committed artifact."""
    stage = read_stage(attempt)
    paths = RunPaths(stage.run)
    if (paths.artifact(stage.name, stage.identity) / "manifest.json").exists():
        return Exit.DONE
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    rank, world_size = engine.start(trains=stage.kind not in WRITING)
    owner = _become_owner(attempt, rank)
    contract.check(stage)
    started = time.monotonic()

    module = importlib.import_module(f"residency.train.{stage.kind}")
    if stage.kind in WRITING:
        return Exit(module.run(stage, attempt, rank, world_size, owner))
    from residency.train import guard

    trainer, watch, resume = guard.train(
        stage,
        attempt,
        lambda: module.build(stage, attempt, world_size),
        lambda: _agree_on_checkpoint(attempt, stage, rank, world_size),
    )
    proof = engine.prove(trainer, EngineSettings.model_validate(stage.execution["engine"]), world_size)
    if watch.stopped_by:
        raise ResidencyError(
            f"stage {stage.name}: {watch.stopped_by}; the checkpoint of step {trainer.state.global_step} is kept",
            cure="Change the stage, or take the sign out of guard.stop_on to go on from there",
            code=Exit.DIVERGED,
        )
    if watch.asked_to_stop and trainer.state.global_step < trainer.state.max_steps:
        if rank == 0:
            report_attempt(
                attempt, status="saved", exit_code=int(Exit.RUN_AGAIN), step=trainer.state.global_step
            )
        return Exit.RUN_AGAIN
    payload = _save(trainer, stage, attempt, rank)
    if rank == 0:
        for name in watch.leaves:
            shutil.copyfile(attempt / name, payload / name)
        measured = _measured(trainer, watch, stage, payload, proof, resume, time.monotonic() - started)
        made_of = passport.of_model(stage, read_manifest(stage.parents["tokens"]).passport)
        commit(attempt, payload, "model", owner=owner, measured=measured, passport=made_of)
    return Exit.DONE


def _become_owner(attempt: Path, rank: int) -> str:
    """Rank 0 locks and owns the attempt; a second worker on the same stage is refused."""
    if rank != 0:
        return ""
    lock = (attempt / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ResidencyError(
            f"another worker is training in {attempt}", cure="Wait for it, or end it"
        ) from error
    globals()["_lock"] = lock  # held until this process ends
    return own(attempt)


def _agree_on_checkpoint(attempt: Path, stage: StageFile, rank: int, ranks: int) -> Path | None:
    """Rank 0 chooses, the others follow: all resume from the same checkpoint or none does."""
    import torch

    from residency.train import reshard

    choice: list[Any] = [None]
    if rank == 0:
        try:
            found, faults = checkpoint.newest_whole(attempt, stage)
            for fault in faults:
                print(f"residency: skipped {fault}", flush=True)
            anew = found is not None and checkpoint.split_anew(found, stage, ranks)
            checkpoint.sweep(attempt, found)
            reshard.remove(attempt)  # of a killed attempt
            if found and anew:
                print(f"residency: {found.name} is split anew for {ranks} ranks", flush=True)
                found = reshard.convert(found, attempt)
            choice = [found]
        except ResidencyError as error:
            choice = [error]
    torch.distributed.broadcast_object_list(choice, src=0)
    if isinstance(choice[0], ResidencyError):
        raise choice[0]
    if choice[0] and rank == 0:
        step = int(choice[0].name.rpartition("-")[2])
        events.emit(RunPaths(stage.run).events, "resumed", stage.name, step=step)
    return Path(choice[0]) if choice[0] else None


def _save(trainer: Any, stage: StageFile, attempt: Path, rank: int) -> Path:
    """Gather the trained weights and write the payload: weights, configuration, tokenizer with its template."""
    import torch

    payload, lora = attempt / "payload", stage.settings["lora"]
    trained = attempt / "adapter" if lora and lora["finish"] == "merge" else payload
    trainer.model.config.use_cache = True
    if rank == 0:
        for left in (payload, trained):  # by a killed attempt
            shutil.rmtree(left, ignore_errors=True)
    torch.distributed.barrier()
    trainer.save_model(str(trained))
    if rank == 0:
        shutil.rmtree(
            trained / "ref", ignore_errors=True
        )  # TRL's copy of the adapter that training started from
        if trained != payload:
            from residency.train.adapters.merging import finish

            finish(stage, attempt, trained, payload)
            trainer.processing_class.save_pretrained(payload)
        saving.note_ends(payload, read_manifest(stage.parents["tokens"]).measured.get("stop_tokens", []))
        (payload / "training_args.bin").unlink(missing_ok=True)  # a pickle, and of no use to a reader
    torch.distributed.barrier()
    return payload


def _measured(
    trainer: Any,
    watch: Any,
    stage: StageFile,
    payload: Path,
    proof: dict[str, Any],
    resume: Path | None,
    seconds: float,
) -> dict[str, Any]:
    import resource

    import torch

    tokens = read_manifest(stage.parents["tokens"]).measured
    steps = trainer.state.global_step
    training = time.monotonic() - watch.started
    seen, with_loss = watch.seen(steps, trainer.state.max_steps, tokens.get("loss_tokens") or 0)
    share = (steps - watch.first_step) / max(steps, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "steps": steps,
        "tokens": seen,
        "loss_tokens": with_loss if "loss_tokens" in tokens else None,
        "loss": watch.losses[-1] if watch.losses else None,
        "seconds": round(seconds, 2),
        "training_seconds": round(training, 2),
        "tokens_per_second": round(seen * share / training, 1) if training else None,
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak,
        "resumed_from_step": int(resume.name.rpartition("-")[2]) if resume else 0,
        "left_out": watch.guard.left_out,
        "signs": watch.signs,
        **watch.measured,
        "engine": proof,
        "weights_sha256": {path.name: sha256(path) for path in sorted(payload.glob("*.safetensors"))},
        **_frozen(stage, payload),
    }


def _frozen(stage: StageFile, payload: Path) -> dict[str, Any]:
    """By what the weights can be known again that a kept adapter stands on."""
    if not (payload / "adapter_config.json").exists():
        return {}
    from residency.model import base_of
    from residency.weights import fingerprint

    return {"base_fingerprint": fingerprint(base_of(stage.parents["model"])[0])}


def _judge(error: BaseException) -> tuple[Exit, str]:
    """Exit code and one line for an error that is not the user's."""
    text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    if isinstance(error, OSError) or "No space left" in text or "Connection closed by peer" in text:
        return Exit.ENVIRONMENT, text
    return Exit.OUR_FAULT, text


def _report(attempt: Path, code: Exit, reason: str) -> None:
    """First reason wins: the peers of a failed rank fail later, with less to say."""
    if attempt.is_dir() and read_attempt(attempt).get("status") not in ("failed",):
        report_attempt(attempt, status="failed", exit_code=int(code), reason=reason)


if __name__ == "__main__":
    main()

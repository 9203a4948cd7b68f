"""Starts ranks without importing torch, transformers and DeepSpeed anew for each: half of a test's time otherwise.

    python tests/rank_server.py serve SOCKET                     imports all of it, then forks ranks for whoever asks
    python tests/rank_server.py SOCKET RANKS MODULE ATTEMPT      in place of `torchrun -m MODULE ATTEMPT`
    python tests/rank_server.py residency SOCKET ARGUMENTS       `residency ARGUMENTS`, whose stages have such ranks

A rank is a process of its own with the environment that torchrun gives; only its imports come from the fork. The
second form ends with the first exit code that is not 0, and with its end the ranks end too, as with torchrun.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

SERVER = Path(__file__).resolve()
IMPORTED = ("cpt", "sft", "preference", "worker")
GRACE_SECONDS = 5.0


def ask(path: str, ranks: str, module: str, attempt: str) -> int:
    """Have ranks started that write where this process does; returns the exit code."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    request = {"ranks": int(ranks), "module": module, "attempt": attempt, "environment": dict(os.environ)}
    socket.send_fds(connection, [json.dumps(request).encode() + b"\n"], [1, 2])
    return int(connection.makefile().readline() or 1)


def in_place_of_torchrun(path: str) -> Callable[[int], list[str]]:
    """The `launcher` of `residency.train.launch.launch` that asks the server at this socket."""
    return lambda ranks: [sys.executable, "-S", str(SERVER), path, str(ranks)]


def run(path: str, arguments: list[str]) -> None:
    """The command line, with the server's ranks."""
    cli, start = importlib.import_module("residency.cli"), importlib.import_module("residency.train.launch")
    start.launch.__kwdefaults__["launcher"] = in_place_of_torchrun(path)
    sys.argv = ["residency", *arguments]
    cli.main()


def serve(path: str) -> None:
    """Answer requests until this process is killed, each in a fork of its own."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    for name in ("deepspeed", "trl.trainer.grpo_trainer", "peft"):
        importlib.import_module(name)
    for name in IMPORTED:
        importlib.import_module(f"residency.train.{name}")
    import torch

    torch.set_num_threads(1)  # no thread may be there before a fork
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()
    while True:
        connection, _ = listening.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listening.close()
            os._exit(_launch(connection))
        connection.close()


def _launch(connection: socket.socket) -> int:
    text, outputs = b"", list[int]()
    while not text.endswith(b"\n"):
        part, descriptors, _, _ = socket.recv_fds(connection, 2**20, 2)
        text, outputs = text + part, outputs + descriptors
    request = json.loads(text)
    port = _free_port()
    ranks = [_fork(request, rank, port, outputs, connection) for rank in range(request["ranks"])]
    for descriptor in outputs:
        os.close(descriptor)
    code = _wait(ranks, connection)
    with suppress(OSError):
        connection.sendall(f"{code}\n".encode())
    return 0


def _fork(
    request: Mapping[str, object], rank: int, port: int, outputs: list[int], asked: socket.socket
) -> int:
    child = os.fork()
    if child:
        return child
    asked.close()
    for number, descriptor in enumerate(outputs, 1):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environment"])  # type: ignore[call-overload]
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(request["ranks"]),
        "LOCAL_WORLD_SIZE": str(request["ranks"]), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    code = 1
    try:
        importlib.import_module(str(request["module"])).main([str(request["attempt"])])
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        os._exit(code)


def _wait(ranks: list[int], connection: socket.socket) -> int:
    """The first exit code that is not 0; the other ranks are ended then, and when the asking process is gone."""
    left, code, poll = set(ranks), 0, 0.05
    while left:
        gone = bool(select.select([connection], [], [], poll)[0])
        if gone and code == 0:
            code = 1
        if code:
            for number in (signal.SIGTERM, signal.SIGKILL):
                for rank in left:
                    with suppress(ProcessLookupError):
                        os.kill(rank, number)
                if number == signal.SIGTERM and not gone:
                    select.select([], [], [], GRACE_SECONDS / 10)
            for rank in left:
                os.waitpid(rank, 0)
            return code
        for rank in list(left):
            ended, status = os.waitpid(rank, os.WNOHANG)
            if ended:
                left.remove(rank)
                code = code or abs(os.waitstatus_to_exitcode(status))
    return code


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    if sys.argv[1] == "residency":
        run(sys.argv[2], sys.argv[3:])
        sys.exit()
    sys.exit(ask(*sys.argv[1:]))

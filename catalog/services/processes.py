"""Finding and ending the processes of an embedded server by what they are, not by a bare process number."""

import time
from contextlib import suppress
from pathlib import Path

import psutil


def processes_in(folder: Path, program: str) -> list[psutil.Process]:
    """Living processes called `program` whose working directory is `folder`.

    Postgres and Valkey both change into their data folder, so this tells the servers of one shop from all others,
    and a reused process number from the server that once had it.
    """
    found = []
    for process in psutil.process_iter():
        if is_process_in(process, folder, program):
            found.append(process)
    return found


def is_process_in(process: psutil.Process, folder: Path, program: str) -> bool:
    """Whether the process lives, is called `program` and works in `folder`."""
    try:
        if not process.name().startswith(program) or process.status() == psutil.STATUS_ZOMBIE:
            return False
        return Path(process.cwd()).samefile(folder)
    except (psutil.Error, OSError):
        return False


def is_alive(pid: int) -> bool:
    """Whether a process with this number exists and is not a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def wait_gone(processes: list[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Wait up to `timeout` seconds and return those that still live; a zombie that nobody collects counts as gone."""
    deadline = time.monotonic() + timeout
    while (alive := [process for process in processes if _lives(process)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return alive


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end(processes: list[psutil.Process], *, patience: float) -> list[psutil.Process]:
    """Ask the processes to end, kill those that do not within `patience` seconds, return those that survive."""
    for process in processes:
        _send(process, "terminate")
    alive = wait_gone(processes, patience)
    for process in alive:
        _send(process, "kill")
    return wait_gone(alive, patience)


def _send(process: psutil.Process, signal: str) -> None:
    with suppress(psutil.NoSuchProcess):
        getattr(process, signal)()

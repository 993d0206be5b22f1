"""Programs of this environment in processes of their own, forked from one that has the libraries.

A server imports once what takes seconds, and forks for each call. The callers are small scripts by
the names of the programs, in a folder of their own. A program that is run so finds them there too,
as beside ``sys.executable``: the trainings that it starts are forked in the same way.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import multiprocessing
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPTS = Path(sys.executable).parent
# what takes seconds to import; those of the absent host are passed over
PRELOADED = (
    "mace_weak.command.finetune",
    "matplotlib.pyplot",
    "mace.cli.run_train",
    "nequip.train",
    "nequip.scripts.train",
)
FORKS = multiprocessing.get_context("fork")
MOST = 2**17  # bytes of a call
CALLER = """\
#!{python} -IS
import json, os, socket, sys

with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.connect({address!r})
    call = json.dumps([sys.argv, dict(os.environ), os.getcwd()])
    socket.send_fds(server, [call.encode()], [1, 2])
    status = server.recv(1)
sys.exit(status[0] if status else "the process was killed")
"""


def run_program(
    name: str, *arguments: object, anew: bool = False, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a program of this environment, or ``python``, on one thread; the output is text.

    ``anew``: not forked, as a user does, so that it imports by its environment.
    """
    return subprocess.run(
        [str((SCRIPTS if anew else callers()) / name), *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@cache
def callers() -> Path:
    """The folder of the callers, whose server ends with this process."""
    folder = Path(tempfile.mkdtemp(prefix="forked-"))
    address = folder / "server"
    caller = folder / "caller"
    caller.write_text(CALLER.format(python=sys.executable, address=str(address)))
    caller.chmod(0o755)
    for program in SCRIPTS.iterdir():
        (folder / program.name).symlink_to(caller)
    paths = filter(None, [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH")])
    server = subprocess.Popen(
        [sys.executable, "-c", f"import forked; forked.serve({str(folder)!r})"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    atexit.register(shutil.rmtree, folder)
    atexit.register(server.communicate)  # by the end of its input it ends
    assert server.stdout is not None
    assert server.stdout.readline(), "the server did not start"
    return folder


def serve(folder: str) -> None:
    """Answer calls until the process that asked for it ends."""
    import torch

    before = dict(os.environ)
    for name in PRELOADED:
        with contextlib.suppress(ImportError), contextlib.redirect_stdout(sys.stderr):
            importlib.import_module(name)
    by_import = {name: value for name, value in os.environ.items() if name not in before}
    torch.set_num_threads(1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that answer
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"{folder}/server")
        listener.listen()
        print("listening", flush=True)
        while True:
            ready, _, _ = select.select([listener, sys.stdin], [], [])
            if sys.stdin in ready:
                return
            call, _ = listener.accept()
            if os.fork() == 0:
                answer(call, Path(folder), by_import)
                os._exit(0)
            call.close()


def answer(call: socket.socket, folder: Path, by_import: dict[str, str]) -> None:
    """Run a program in a process of its own, and tell its status.

    Of the environment it has the caller's, and ``by_import`` what preloaded modules put there.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, streams, _, _ = socket.recv_fds(call, MOST, 2)
    words, environment, where = json.loads(message)

    def program() -> None:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for descriptor, stream in enumerate(streams, start=1):
            os.dup2(stream, descriptor)
        os.chdir(where)
        os.environ.clear()
        os.environ.update({**by_import, **environment})
        sys.executable = str(folder / "python")
        importlib.invalidate_caches()
        call_program(words)

    process = FORKS.Process(target=program)
    process.start()
    process.join()
    call.send(bytes([(process.exitcode or 0) % 256]))


def call_program(words: list[str]) -> None:
    """By its entry point, or as a module of the recipes; any other is started anew."""
    name = Path(words[0]).name
    if name == "python" and words[1] == "-m" and words[2].startswith("recipes."):
        sys.argv[:] = words[2:]
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)
    elif found := entry_points(group="console_scripts", name=name):
        sys.argv[:] = words
        next(iter(found)).load()()
    else:
        os.execv(SCRIPTS / name, [str(SCRIPTS / name), *words[1:]])

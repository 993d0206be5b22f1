"""A Slurm cluster of two nodes on loopback: Debian's `slurm-wlm` and `munge`, started as root."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
GPUS = 4  # of each node, that Slurm gives away and nobody has
NODES = ("127.0.0.1", "127.0.0.2")  # names that everybody resolves
RUNNING = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED", "SUSPENDED")
CONFIGURATION = """\
ClusterName=test
SlurmctldHost=localhost
SlurmctldAddr=127.0.0.1
SlurmctldPort={controller_port}
FirstJobId={first_job}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=5,bf_interval=5
ReturnToService=2
KillWait=5
GresTypes=gpu
{nodes}
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def unusable() -> str | None:
    """Why no cluster can be started here; None if it can."""
    if os.geteuid() != 0:
        return "only root can start a Slurm cluster"
    absent = [program for program in PROGRAMS if shutil.which(program, path=search_path()) is None]
    return f"{', '.join(absent)}: not installed" if absent else None


def needs_slurm(test):
    reason = unusable()
    return pytest.mark.slurm(pytest.mark.skipif(reason is not None, reason=str(reason))(test))


def search_path() -> str:
    """Where programs lie; daemons are not on everybody's path."""
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


class Cluster:
    """The daemons, and the jobs given to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self) -> None:
        for name in ("state", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir()
        self.folder.chmod(0o755)
        (self.folder / "slurm.conf").write_text(
            CONFIGURATION.format(
                folder=self.folder,
                controller_port=free_port(),
                first_job=1 + 100 * (os.getpid() % 1000),  # a job's port follows from its id
                nodes="\n".join(
                    f"NodeName={node} NodeHostname=localhost NodeAddr=127.0.0.1 Port={free_port()} "
                    f"CPUs=64 Gres=gpu:{GPUS} State=UNKNOWN"
                    for node in NODES
                ),
            )
        )
        for number in range(GPUS):  # a device that Slurm may find
            (self.folder / f"gpu{number}").symlink_to("/dev/null")
        (self.folder / "gres.conf").write_text(
            f"AutoDetect=off\nName=gpu File={self.folder}/gpu[0-{GPUS - 1}]\n"
        )
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        self.call(
            "munged", "--force", f"--key-file={key}", f"--socket={self.folder}/munge.socket",
            f"--pid-file={self.folder}/munged.pid", f"--log-file={self.folder}/munged.log",
            f"--seed-file={self.folder}/munge.seed",
        )  # fmt: skip
        self.call("slurmctld", "-c")
        for node in NODES:
            self.call("slurmd", "-N", node)
        idle = ("sinfo", "--noheader", "--Node", "--states=idle")
        self.wait_for(lambda: len(self.call(*idle).splitlines()) == len(NODES), "idle nodes")

    def stop(self) -> None:
        self.call("scancel", "--user=root")
        for daemon in (*(f"slurmd-{node}" for node in NODES), "slurmctld", "munged"):
            path = self.folder / f"{daemon}.pid"
            if path.exists():
                subprocess.run(["kill", path.read_text().strip()], check=False)

    def call(self, *command: str, cwd: Path | None = None) -> str:
        """The output of a command that must succeed."""
        done = subprocess.run(
            command,
            env={
                **os.environ,
                "PATH": search_path(),
                "SLURM_CONF": str(self.folder / "slurm.conf"),
            },
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}{self.logs()}"
        return done.stdout

    def logs(self) -> str:
        return "\n".join(path.read_text()[-2000:] for path in self.folder.glob("*.log"))

    def submit(self, script: Path, *arguments: str, options: Sequence[str], cwd: Path) -> str:
        """Number of the job of a batch script."""
        return self.call("sbatch", "--parsable", *options, str(script), *arguments, cwd=cwd).strip()

    def states(self, job: str) -> list[str]:
        """Of a job, or of all jobs of an array."""
        return re.findall(r"JobState=(\w+)", self.call("scontrol", "show", "job", job))

    def wait(self, job: str, *, seconds: float = 300) -> list[str]:
        """The states of a job that is over."""
        self.wait_for(
            lambda: not any(state in RUNNING for state in self.states(job)), f"job {job}", seconds
        )
        return self.states(job)

    def start_again(self, job: str) -> None:
        """Start a requeued job soon, when its first run is over; Slurm lets it wait two minutes."""
        self.wait_for(lambda: self.states(job) == ["PENDING"], f"job {job} in the queue")
        self.call("scontrol", "update", f"JobId={job}", "StartTime=now+10")

    def wait_for(self, condition, what: str, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"waited {seconds} s for {what}\n{self.logs()}"
            time.sleep(0.5)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

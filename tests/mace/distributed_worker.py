"""`mace_run_train --distributed` with gloo on the CPU, which MACE itself offers for CUDA only.

Only the process group and the device list of DistributedDataParallel are replaced.
"""

import functools
import os

import torch.distributed
import torch.nn.parallel

if "RANK" not in os.environ:  # torchrun sets it, for Slurm MACE does
    from mace.tools.slurm_distributed import DistributedEnvironment

    DistributedEnvironment()
torch.distributed.init_process_group("gloo")
genuine = torch.nn.parallel.DistributedDataParallel


@functools.wraps(genuine)
def on_cpu(module, device_ids=None):
    return genuine(module)


torch.nn.parallel.DistributedDataParallel = on_cpu

if __name__ == "__main__":
    from mace.cli.run_train import main

    main()

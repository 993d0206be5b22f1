# shellcheck shell=bash
# The one place to adapt to your cluster: every script of this folder reads it.

# module purge; module load python/3.11 cuda/12.4     # whatever gives your cluster's CUDA driver

# The environment with mace-weak[mace]; empty: the one that is active already.
VENV="${VENV-$HOME/venvs/mace-weak}"
if [ -n "$VENV" ]; then
    # shellcheck source=/dev/null
    source "$VENV/bin/activate"
fi

# cuda, or cpu to try a script out. cuEquivariance is a flag of the training: --enable_cueq=True.
DEVICE="${DEVICE:-cuda}"

export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-${NCPUS:-1}}"
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}" # srun does not take it over from sbatch
export PYTHONUNBUFFERED=1

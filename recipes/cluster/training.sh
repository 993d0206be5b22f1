# shellcheck shell=bash
# What the batch scripts have in common.

# The arguments of every mace_run_train: those of the user last, so that they win.
training_arguments() {
    local config=$1
    shift
    arguments=("--config=$config" "--device=$DEVICE" --restart_latest "$@")
}

# The folder of the training, from its arguments: MACE's --work_dir.
work_dir() {
    local argument folder=.
    for argument in "${arguments[@]}"; do
        case $argument in --work_dir=*) folder=${argument#--work_dir=} ;; esac
    done
    echo "$folder"
}

# A job that is killed while it saves leaves a broken checkpoint, from which MACE cannot go on.
drop_broken_checkpoints() {
    local checkpoint
    for checkpoint in "$(work_dir)"/checkpoints/*.pt; do
        [ -e "$checkpoint" ] || continue
        if ! python -m zipfile --test "$checkpoint" >/dev/null 2>&1; then
            echo "removed the broken checkpoint $checkpoint"
            rm "$checkpoint"
        fi
    done
}

# until_time_limit COMMAND...: run it; when Slurm signals that the time is nearly over, put the job
# back into the queue. It goes on from the last checkpoint when its turn comes.
until_time_limit() {
    trap 'echo "time is nearly over: requeued"; scontrol requeue "$SLURM_JOB_ID"' USR1
    "$@" &
    local child=$! status=0
    while true; do # a signal ends wait before the child ends
        wait "$child" && status=0 || status=$?
        kill -0 "$child" 2>/dev/null || break
    done
    return "$status"
}

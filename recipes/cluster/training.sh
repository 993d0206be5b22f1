# shellcheck shell=bash
# What the batch scripts have in common.

# The arguments of every mace_run_train: those of the user last, so that they win.
training_arguments() {
    local config=$1
    shift
    arguments=("--config=$config" "--device=$DEVICE" --restart_latest "$@")
}

# The folder of MACE's checkpoints, as its own parser reads it from the configuration and the flags.
checkpoints_dir() {
    python - "${arguments[@]}" <<'PYTHON' | tail -n 1
import sys
from mace.tools import build_default_arg_parser
known, _ = build_default_arg_parser().parse_known_args(sys.argv[1:])
print(known.checkpoints_dir or f"{known.work_dir}/checkpoints")
PYTHON
}

# A value for nequip-train, whose overrides give = ( , and others a meaning.
quoted() {
    local escaped="\\'"
    printf "'%s'" "${1//\'/$escaped}"
}

IS_WHOLE='import sys, zipfile; sys.exit(zipfile.ZipFile(sys.argv[1]).testzip() is not None)'

# drop_broken FILES...: a job that is killed while it saves leaves a broken checkpoint, from which
# no training can go on.
drop_broken() {
    local checkpoint
    for checkpoint in "$@"; do
        [ -e "$checkpoint" ] || continue
        if ! python -c "$IS_WHOLE" "$checkpoint" >/dev/null 2>&1; then
            echo "removed the broken checkpoint $checkpoint"
            rm "$checkpoint"
        fi
    done
}

drop_broken_checkpoints() {
    local folder
    folder=$(checkpoints_dir)
    drop_broken "$folder"/*.pt
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

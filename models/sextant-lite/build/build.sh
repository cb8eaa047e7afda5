#!/usr/bin/env bash
# Builds the package sextant-lite: features, text vectors, heads, towers, calibration, measurements.
#
#   build.sh DATA WORK PACKAGE [--free-only]
#
# DATA     the data folder (train/, calib/, names/, and for the last step dev-eval/ and coco-50/)
# WORK     an empty folder for what lies between (about 1.5 GB); a second run goes on from what is there
# PACKAGE  a new folder for the package: image.onnx, text.onnx, tokenizer.json, model.toml
#
# Needs Rust, and Python 3.11 with requirements.txt installed (PYTHON=... names another interpreter) and WordNet 3.0's data
# files (Debian: wordnet-base), in /usr/share/wordnet or $WORDNET. An hour on two cores.
set -euo pipefail

if [ $# -lt 3 ]; then
    sed -n '2,12p' "$0" >&2
    exit 2
fi
data=$1 work=$2 package=$3
shift 3
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
step() { "$python" -W ignore "$here/$1.py" "${@:2}"; }

mkdir -p "$work"
step cache_features "$data" "$work"
[ -e "$work/vocabulary.json" ] || step vocabulary "$data" "$work" --wordnet "${WORDNET:-/usr/share/wordnet}"
step train_heads "$data" "$work" "$@"
step export_towers "$work"
step package single "$work" "$work/single"
step calibration_texts "$work"
# Only the text head needs more than int8: of its results, int8 alone would lose 3.4 %.
cargo run --release --no-default-features --manifest-path "$here/../../../Cargo.toml" -- \
    model quantize "$work/single" -o "$package" --name sextant-lite --calibrate "$data/calib/flickr8k-188/images" \
    --texts "$work/texts.txt" --samples 1024 --smallest-cosine 0.9998
step calibrate "$data" "$work" "$package"
step package manifest "$work" "$package"
step evaluate "$data" "$package" --reference "$work"

#!/usr/bin/env bash
# Seed 003's entry: BMN, whole training with validation, 8 devices. Options: tools/bmn/train.py --help
#   bash test/train_full_8p.sh --data_path=/data/activitynet/
set -euo pipefail
here="$(cd "$(dirname "$0")/.." && pwd)"
python="${PYTHON:-$([ -x "$here/.venv/bin/python" ] && echo "$here/.venv/bin/python" || echo python3)}"
exec "$python" "$here/tools/bmn/train.py" --mode full --devices 8 "$@"

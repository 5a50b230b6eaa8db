"""Train, with MMAction2's command line (0.x and 1.x) or PaddleCV's (with --model_name).

python tools/train.py configs/recognition/tpn/tpn_slowonly_r50_8x8x1_150e_kinetics_rgb.py --work-dir DIR --validate --seed 0
python tools/train.py --model_name=TSN --config=./configs/tsn.yaml --use_gpu=False
"""

import sys

import mmaction2_style
import paddle_style

if __name__ == "__main__":
    paddle = any(word.startswith("--model_name") for word in sys.argv[1:])
    sys.exit(paddle_style.main(["train", *sys.argv[1:]]) if paddle else mmaction2_style.train(sys.argv[1:]))

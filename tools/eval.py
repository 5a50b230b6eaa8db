"""Evaluate, with PaddleCV's command line: python tools/eval.py --model_name=TSN --config=./configs/tsn.yaml --weights=FILE"""

import sys

import paddle_style

if __name__ == "__main__":
    sys.exit(paddle_style.main(["eval", *sys.argv[1:]]))

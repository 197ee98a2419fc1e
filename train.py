"""Train: ``python train.py configs/experiment/NAME.yaml [key=value ...]``. The same as ``amodalseg train``."""

import sys

from amodalseg.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))

"""Evaluate: ``python eval.py configs/eval/NAME.yaml [key=value ...]``. The same as ``amodalseg eval``."""

import sys

from amodalseg.cli import main

if __name__ == "__main__":
    sys.exit(main(["eval", *sys.argv[1:]]))

"""The web demo as a Hugging Face Space."""

import sys

from amodalseg.cli import main

if __name__ == "__main__":
    sys.exit(main(["demo", "conddiff_amo_lite", "convex_hull"]))

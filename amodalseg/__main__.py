"""``python -m amodalseg``."""

import sys

from amodalseg.cli.commands import main

sys.exit(main())

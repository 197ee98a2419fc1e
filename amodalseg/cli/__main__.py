"""``python -m amodalseg.cli``."""

import sys

from amodalseg.cli.commands import main

sys.exit(main())

"""`python -m pyroberta` is the command line."""

import sys

from pyroberta.cli import main

sys.exit(main())

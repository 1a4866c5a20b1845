"""`python -m pyroberta` is the command line."""

import sys

from pyroberta.cli.main import main

sys.exit(main())

"""`python -m tinysql` is `tinysql`."""

import sys

from tinysql.cli import main

sys.exit(main())

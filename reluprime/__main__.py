import sys

from reluprime.cli import main

sys.exit(main())

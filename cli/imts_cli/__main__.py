import sys

from imts_cli.main import main

sys.exit(main())

import sys

from unveil.models.evaluation.cli import main

sys.exit(main())

"""``python -m style_provider``: the program ``style-provider``, for launchers such as ``torchrun -m``."""

import sys

from style_provider.cli.app import main

if __name__ == "__main__":
    sys.exit(main())

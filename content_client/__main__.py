"""``python -m content_client``: the program ``content-client``, for launchers such as ``torchrun -m``."""

import sys

from content_client.cli.app import main

if __name__ == "__main__":
    sys.exit(main())

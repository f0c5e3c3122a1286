"""Runs one of Flower's own programs in a process of ours: ``python -I -m modify_fl.federated.flower_process NAME ...``.

A process ends when the one that started it does, however that ends (F-27). The
SuperLink gets the gate, whose secret comes through the environment (F-25).
"""

import os
import sys

__all__ = ["PARENT", "PROGRAMS", "SECRET", "main"]

PROGRAMS = {
    "superexec": "flower_superexec", "superlink": "flower_superlink", "supernode": "flower_supernode",
    "serverapp": "flwr_serverapp", "simulation": "flwr_simulation",
}  # fmt: skip
"""What may be started, and Flower's name for it."""
PARENT = "MODIFY_PARENT"
"""Names the process whose end ends this one."""
SECRET = "MODIFY_SUPERLINK_SECRET"  # noqa: S105 - the name of the variable
"""Holds the secret of the gate."""


def main() -> None:
    """Run the program that the first word names with the words after it."""
    name, sys.argv = sys.argv[1], [PROGRAMS[sys.argv[1]].replace("_", "-"), *sys.argv[2:]]
    from modify_fl.federated import compat  # noqa: PLC0415 - refuses an environment that was not set (F-4)

    parent, secret = os.environ.pop(PARENT, ""), os.environ.pop(SECRET, "")
    if parent:
        compat.start_parent_process_monitor(int(parent))
    if name == "superlink":
        compat.guard_superlink(secret)
    getattr(compat, PROGRAMS[name])()


if __name__ == "__main__":
    main()

"""The command tree of ``content-client``: one file per command, imported when it is used."""

from modify_fl.console import run_program
from modify_fl.options import add_version, new_program

__all__ = ["app", "main"]

_COMMANDS = ("trust", "verify", "inspect", "adapt", "stylize", "export", "federate", "privacy", "weights", "doctor")

app = new_program(
    "Use a signed style on your own photos. Photos never leave this machine.", "content_client.cli", _COMMANDS
)
add_version(app)


def main() -> int:
    """Run the program on the words of this process and return its exit code."""
    return run_program(app, "content-client")

"""The command tree of ``style-provider``: one file per command, imported when it is used."""

from modify_fl.console import run_program
from modify_fl.options import add_version, new_program

__all__ = ["app", "main"]

_COMMANDS = (
    "keygen",
    "key",
    "datasets",
    "package",
    "audit",
    "inspect",
    "verify",
    "evaluate",
    "reproduce",
    "revoke",
    "federate",
    "weights",
    "doctor",
)

app = new_program(
    "Encapsulate a style in one signed file. Style images never leave this machine.", "style_provider.cli", _COMMANDS,
    aliases={("evaluate", "--reproduce"): "reproduce"},  # as M-47 writes it
)  # fmt: skip
add_version(app)


def main() -> int:
    """Run the program on the words of this process and return its exit code."""
    return run_program(app, "style-provider")

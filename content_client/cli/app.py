"""The command tree of ``content-client``."""

from content_client.cli.adapt import adapt
from content_client.cli.inspect import inspect
from content_client.cli.stylize import stylize
from content_client.cli.trust import trust
from content_client.cli.verify import verify
from modify_fl.console import run_program
from modify_fl.options import add_version, new_program

__all__ = ["app", "main"]

app = new_program("Use a signed style on your own photos. Photos never leave this machine.")
add_version(app)
app.add_typer(trust, name="trust")
app.command("verify")(verify)
app.command("inspect")(inspect)
app.command("adapt")(adapt)
app.command("stylize")(stylize)


def main() -> int:
    """Run the program on the words of this process and return its exit code."""
    return run_program(app, "content-client")

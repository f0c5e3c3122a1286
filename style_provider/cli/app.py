"""The command tree of ``style-provider``."""

from modify_fl.console import run_program
from modify_fl.options import add_version, new_program
from style_provider.cli.datasets import datasets
from style_provider.cli.inspect import inspect
from style_provider.cli.key import key
from style_provider.cli.keygen import keygen
from style_provider.cli.package import package
from style_provider.cli.revoke import revoke
from style_provider.cli.verify import verify

__all__ = ["app", "main"]

app = new_program("Encapsulate a style in one signed file. Style images never leave this machine.")
add_version(app)
app.command("keygen")(keygen)
app.add_typer(key, name="key")
app.add_typer(datasets, name="datasets")
app.command("package")(package)
app.command("inspect")(inspect)
app.command("verify")(verify)
app.command("revoke")(revoke)


def main() -> int:
    """Run the program on the words of this process and return its exit code."""
    return run_program(app, "style-provider")

"""``content-client federate``: rounds at several sites (design/federation.md, section 8)."""

from content_client.cli.federate_simulate import simulate
from modify_fl.options import new_program

__all__ = ["federate"]

federate = new_program("Adapt a style together with other sites; photos stay here.")
federate.command("simulate")(simulate)


@federate.callback()
def _tree() -> None:
    """Nothing belongs to the tree as a whole."""

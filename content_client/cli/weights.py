"""``content-client weights``: pretrained networks (``modify_fl.weight_commands``)."""

from modify_fl.weight_commands import weights_program

__all__ = ["weights"]

weights = weights_program("content-client", "training uses if it can")

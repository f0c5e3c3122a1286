"""``style-provider weights``: pretrained networks (``modify_fl.weight_commands``)."""

from modify_fl.weight_commands import weights_program

__all__ = ["weights"]

weights = weights_program("style-provider", "training and evaluation use if they can")

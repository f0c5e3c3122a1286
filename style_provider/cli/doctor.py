"""``style-provider doctor``: what works here, what does not, and what to do about it."""

from collections.abc import Mapping

from modify_fl.console import Console, Verbosity, run_command
from modify_fl.options import DebugOption, JsonOption, QuietOption, VerboseOption

__all__ = ["doctor"]


def doctor(
    as_json: JsonOption = False, quiet: QuietOption = False, verbose: VerboseOption = 0, debug: DebugOption = False
) -> int:
    """Look at this installation: one line a check, ok, warn or fail, with a fix.

    Versions, devices, threads, models, folders and the signing key.
    Nothing is changed, and nothing is asked of the network. With --json no path,
    no host name and no user name is printed, so that it can be sent to others.
    """
    console = Console("style-provider", "doctor", Verbosity(json=as_json, quiet=quiet, verbose=verbose, debug=debug))

    def action() -> Mapping[str, object]:
        from modify_fl.doctor import machine, shipped
        from modify_fl.doctor.report import examine, late
        from style_provider import health

        looks = machine.LOOKS | health.LOOKS | shipped.LOOKS
        return examine(console, looks | {"torch": late("modify_fl.doctor.compute")})

    return run_command(console, action)

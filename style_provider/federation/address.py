"""Host and port as people write them."""

from modify_fl.errors import ConfigError

__all__ = ["parse_address"]


def parse_address(text: str) -> tuple[str, int]:
    """Read ``HOST:PORT``; an IPv6 address stands in brackets.

    Raises:
        ConfigError: It is something else.
    """
    host, _, port = text.rpartition(":")
    if not host.strip("[]") or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise ConfigError(f"{text} is no address", fix="write it like fl.example:8443")
    return host.strip("[]"), int(port)

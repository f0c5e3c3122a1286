"""``content-client``: one file per command."""

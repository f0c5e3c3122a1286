"""``style-provider``: one file per command."""

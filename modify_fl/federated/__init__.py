"""Stage 2 at several sites at once: rounds with Flower, in one process or over TLS (``docs/design/federation.md``).

Flower is the engine and the transport; what a site executes, what it sends, and
what the coordinator accepts is decided here. No other package imports ``flwr``, and
inside this one everything of it comes through ``compat`` (F-2).
"""

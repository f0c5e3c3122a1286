"""Federated stage 2 on Flower (``docs/design/federation.md``). The only package that imports ``flwr``."""

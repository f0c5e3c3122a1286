"""The coordinator of federated rounds: plan, serve, and what became of it (design/federation.md, section 8)."""

"""A site in federated rounds: enrol, join, or try the rounds on one machine (design/federation.md, section 8)."""

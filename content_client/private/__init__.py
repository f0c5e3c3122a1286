"""Stage 2 with differential privacy on this machine (P-7, P-12, P-30, P-51 to P-55).

Modules, from the bottom: ``vaults`` (what the client is told about a vault),
``request`` (public numbers of a run: what was asked for, and what it began with),
``public_faces`` (what they give a run), ``adaptation`` (the work of ``adapt
--privacy dp``).
"""

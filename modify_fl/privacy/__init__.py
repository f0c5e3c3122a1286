"""Differential privacy of a client's photos (design/privacy.md, Part I); the sole importer of Opacus.

Modules, from the bottom: ``settings`` (public numbers that decide the guarantee),
``sampler``, ``noise`` and ``engine`` (the mechanism), ``accounting`` and ``planning``
(what steps cost and are worth), ``records``, ``fingerprints``, ``places``, ``state``,
``making`` and ``ledger`` (the vault: lines, where they lie, who may add one),
``statement`` (what may be said), ``allowed`` (what may leave), ``release`` (the one door),
``preflight`` and ``auditing`` (tests of the mechanism before and beside a run).
"""

"""Signed bundles: the format, its verification, and whom to trust.

This package stands alone: standard library and ``cryptography``, no torch, no
numpy. ``SPEC.md`` beside this file is normative; code and tests cite its rules
(B-1 to B-47). A file imports only from those above it::

    errors      the error tree and the table of codes
    canonical   strict JSON in, canonical JSON out
    schema      frozen dataclasses <-> JSON objects
    storage     small files: atomic, private, bounded
    privacy     the privacy card: what can leak, said truthfully
    manifest    what a bundle says about itself
    container   canonical archive <-> members
    tensors     strict safetensors header
    encryption  age files: keys under a passphrase, bundles for recipients
    identity    files of the user's own age identity
    dsse        signatures over the pre-authentication encoding
    signing     keys, fingerprints, private key files
    provider    the public key as clients pin it: key files
    revocation  what a provider takes back: keys and bundles
    pins        accepted providers and their chains of keys: pins.json
    history     what was seen, agreed to and taken back: state.json
    rotation    how the keys of an accepted provider may change
    trust_files the two files in a folder, or in memory
    statement   model.sig: which members were signed
    trust       the store: whose signature counts, and which release is too old
    policy      whom to believe, and what may be used
    steps       what each step of the verification checks
    rules       the one table of steps
    verified    what verification gives
    verify      the only door from bytes to a VerifiedBundle
    audit       every rule at once, for finding out what is wrong
    card        model card
    lint        private details that must not leave the house
    publish     members -> signed bundle

Nothing is imported here, so that each command pays only for what it uses.
"""

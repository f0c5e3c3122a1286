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
    encryption  private keys under a passphrase
    dsse        signatures over the pre-authentication encoding
    signing     keys, fingerprints, private key files
    provider    the public key as clients pin it: key files
    statement   model.sig: which members were signed
    trust       pinned keys
    steps       what each step of the verification checks
    verify      the only door from bytes to a VerifiedBundle
    card        model card
    lint        private details that must not leave the house
    publish     members -> signed bundle

Nothing is imported here, so that each command pays only for what it uses.
"""

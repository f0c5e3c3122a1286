"""Face models that stage 1 starts from, and their data files (M-23, ADR 6).

A base is three files beside this one: ``NAME.safetensors`` holds E (gains as
trained), D, the offset, M and Dis; ``NAME.json`` says what they are and what
their digest is; ``NAME.md`` is the model card, made from the JSON. None need be
there: stage 1 then starts from the seed.

``card`` reads and finds them without torch, ``start`` loads them, ``export``
writes them.
"""

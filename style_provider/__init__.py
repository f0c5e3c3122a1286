"""The side that holds the style images: keys, encapsulation, signed bundles.

Style images never leave this process; what leaves it is a signed ``.mdfy`` file.
"""

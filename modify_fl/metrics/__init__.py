"""Figures of evaluation: image batches and features in, numbers with intervals out (M-44 to M-49).

Nothing here knows of bundles, styles or files but the weights of the measuring
networks. A figure that cannot be computed has no value and says why (M-43).
"""

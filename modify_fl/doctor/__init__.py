"""What ``doctor`` of both programs looks at: one check a line, ok, warn or fail, with a fix (U-33, U-43).

``report`` runs checks and says what they found; ``machine`` looks at this
computer and ``shipped`` at the models that come with packages, both without
torch; ``compute`` looks at devices and threads, and at the networks that are found.
"""

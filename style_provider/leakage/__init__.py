"""What a bundle gives away of its style images (P-70 to P-85).

``material`` is what is attacked and with what, ``copies`` and ``inversion`` are
the attacks, ``findings`` their figures, ``limits`` what a provider refuses,
``planning`` says how hard and how long, ``work`` keeps what was done, ``attack``
runs all of it, ``report`` and ``page`` tell it.

An audit is evidence, never a guarantee: it says what was tried.
"""

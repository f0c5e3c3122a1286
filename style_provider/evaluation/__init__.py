"""How well a bundle paints (M-44 to M-48): ``task`` what is asked, ``measure`` the figures, ``report`` what is told."""

"""The Flower app of modify-fl; everything it does is in the installed package."""

"""What the method is compared with, built here (M-45). Nothing of it is ever in a bundle."""

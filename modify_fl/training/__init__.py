"""Stage 1, stage 2 and the loop both share; pictures in, networks out."""

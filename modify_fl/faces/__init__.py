"""Photo <-> aligned face. So far only the way in and out of picture files."""

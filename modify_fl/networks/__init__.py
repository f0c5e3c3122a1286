"""Networks of the method: E, D, M and Dis, and the readers of foreign checkpoints.

Every layer derives from one ``NetworkConfig`` (M-13); ``model.StyleModel`` holds
the three networks that a style bundle carries. Import the modules themselves:
this package imports nothing, so that a reader of one network loads only that.
"""

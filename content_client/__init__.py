"""The side that holds the photos: trust, verification, adaptation, stylized pictures.

Photos, and a critic that has seen photos, never leave this machine (M-37).
"""

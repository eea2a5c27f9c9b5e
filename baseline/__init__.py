"""The Gatys pixel-space optimizer, and the comparison of a trained network against it."""

"""Training a transformer network from one style image."""

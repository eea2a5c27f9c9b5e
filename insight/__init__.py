"""Looking into the networks: what their layers respond to, what they ignore, and where the costs come from."""

"""The kernels of the page in C, and what builds them."""

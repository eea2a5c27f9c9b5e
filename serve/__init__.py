"""Styles in the browser: the page, a folder for any web host, and a server on this machine. Nothing in here imports torch."""

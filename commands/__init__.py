"""The command line: signatures, help texts, and what is drawn on the terminal."""

"""What every other part stands on: the contract of the model file, errors, events, output files."""

__version__ = "0.1.0"

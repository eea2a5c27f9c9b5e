"""Looking into the networks: what their layers respond to, what they ignore, and where the costs come from."""

import os
import tempfile

if "MPLCONFIGDIR" not in os.environ:  # matplotlib's list of fonts goes with the process, not into the home folder
    _fonts = tempfile.TemporaryDirectory(prefix="allaprima-")
    os.environ["MPLCONFIGDIR"] = _fonts.name

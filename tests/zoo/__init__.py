"""Real architectures with random weights, and the inputs they are proven on.

Owns the models that tests, benchmarks and the command line's examples share. Refuses anything that needs the network.
"""

from .entry import Entry, Inputs, Sizes
from .models import BY_NAME, ENTRIES

__all__ = ["BY_NAME", "ENTRIES", "Entry", "Inputs", "Sizes"]

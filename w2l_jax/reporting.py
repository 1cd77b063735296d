"""How long work says where it is."""

from collections.abc import Callable

Report = Callable[[str], None]
"""Takes lines for the user."""
Progress = Callable[[float, float, str], None]
"""Takes how much is done, of how much, and a description."""

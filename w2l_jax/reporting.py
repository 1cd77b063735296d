"""How long-running work reports."""

from collections.abc import Callable

Report = Callable[[str], None]
"""Takes lines for the user."""
Progress = Callable[[float, float, str], None]
"""Takes the amount done, the total, and a description."""

"""The paper's experiments as a grid that can be run again at any scale, and a report of what came out."""

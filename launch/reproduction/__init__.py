"""The paper's experiments as a grid that can be repeated at any scale, and a report of the results."""

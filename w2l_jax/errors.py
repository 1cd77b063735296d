"""The error that the library raises for problems its user can solve."""


class UserError(ValueError):
    """A message for the user: what is wrong, where, and what to do about it."""

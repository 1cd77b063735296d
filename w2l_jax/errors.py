"""The one error type that the library raises about things its user can put right."""


class UserError(ValueError):
    """A message for the person at the keyboard: what is wrong, where, and what to do about it."""

"""Numbers in words, through num2words."""

from collections.abc import Callable

from w2l_jax.errors import UserError


def speller(language: str, to: str) -> Callable[[int], str]:
    """Returns a function that spells an integer in `language` as a `cardinal`, `ordinal` or `year`.

    Raises UserError if num2words is not installed.
    """
    try:
        import num2words
    except ImportError:
        raise UserError("the demo corpus needs num2words: pip install 'w2l_jax[demo]'") from None

    def spell(number: int) -> str:
        return " ".join(num2words.num2words(number, lang=language, to=to).replace("-", " ").replace(",", " ").split())

    return spell

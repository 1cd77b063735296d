import pytest

from w2l_jax.errors import UserError
from w2l_jax.languages import checked_name


def test_a_misspelt_language_is_refused_and_a_new_one_is_not():
    with pytest.raises(UserError, match="unknown language 'frenhc'; did you mean french"):
        checked_name("frenhc")
    names = [checked_name(name) for name in ("de", "German", "klingon", "pl-PL", "")]
    assert names == ["german", "german", "klingon", "polish", ""]

"""Numbers in digits and in words."""

from fractions import Fraction

import pytest

from toolkit.text.number import numbers, spoken


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("He has $1,200.50 and .5 of 3 kg", ["1200.5", "0.5", "3"]),
        ("1,2,3 and 1,23", ["1", "2", "3", "1", "23"]),
        ("2 million dollars, 3 thousands", ["2000000", "3"]),
        ("x" * 5 + "9" * 100, []),
        ("", []),
    ],
)
def test_numbers_in_digits_are_read_with_separators_and_scales(text: str, found: list[str]) -> None:
    """A comma separates thousands only; a scale multiplies; a number of 100 digits is passed over."""
    assert [number for number, _ in numbers(text)] == [Fraction(number) for number in found]


def test_a_number_says_where_it_starts() -> None:
    """The position is that of the first digit."""
    assert list(numbers("ab 12 c .5")) == [(Fraction(12), 3), (Fraction(1, 2), 8)]


@pytest.mark.parametrize(
    ("text", "largest"),
    [
        ("twenty-five", 25),
        ("Three hundred and six", 306),
        ("two thousand five hundred", 2500),
        ("five six", 6),
        ("one million", 1_000_000),
        ("hundred " * 1000, None),
    ],
)
def test_numbers_in_words_are_read_as_they_are_spoken(text: str, largest: int | None) -> None:
    """Tens and ones, hundreds and scales combine; neighbours that do not belong together do not."""
    assert max(spoken(text), default=None) == largest

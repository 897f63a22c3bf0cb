"""Written equations are found, and are true or false as a reader would say."""

import re
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.text.arithmetic import equations


@pytest.mark.parametrize(
    "text",
    [
        "3 + 4 = 7",
        "16 - 3 - 4 = $9",
        "2*10 = 20",
        "2 x 0.5 = 1.0",
        "2x5=10",
        "1/2 * 6 = 3",
        "50% of 80 = 40",
        "80,000*1.5=<<80000*1.5=120000>>120,000",
        "so 2 * (3 + 4) = 2 * 7 = 14 eggs",
        "12 = 3 * 4",
        "10/3 = 3.33",
        "5/3 = 1.6",
        "10/3 ≈ 3",
        "2 1/2 * 4 = 10",
        "3 eggs/day * 7 days = 21 eggs",
        "9 duck eggs * $2 per egg = $18",
        "-3 + 4 = 1",
        "3 - -4 = 7",
        "2^10 = 2**10",
        "5/20 * 100 = 25%",
        "100% - 20% = 80%",
        "$1.5 million * 2 = $3 million",
        r"\frac{1}{2} \times 6 = \boxed{3}",
        r"\$4 \cdot 3 = \$12",
        "3(4 + 5) = 27",
        "12 ÷ 4 − 1 = 2",
        "3 times 4 plus 2 = 14",
        "3 + 4 = 7 * 2 = 14",
        "1. 3 + 4 = 7",
        "- 3 + 4 = 7",
        "**3 + 4 = 7**",
        "3 boxes = 3 * 12 = 36 eggs",
    ],
)
def test_a_true_equation_holds(text: str) -> None:
    """Each way in which people write a true equation is read as one."""
    assert [equation.holds for equation in equations(text)] == [True]


@pytest.mark.parametrize(
    "text",
    [
        "3 + 4 = 8",
        "She has 16 - 3 - 4 = $10.",
        "10/3 = 3.34",
        "10/3 = 4",
        "10/3 = 3",
        "130,000*.15 = $<<130000*.15=19500.0>>195,000",
        "5 - 8 = 3",
        "4 cars / 20 cars * 100% = 25%",
        "3 + 4 = 7 = 8",
        "50% of 80 = 50",
        "2 * (3 + 4) = 10",
        "x = 3 + 4 = 8",
        "10 / 3 ≈ 4",
    ],
)
def test_a_false_equation_does_not(text: str) -> None:
    """A slip is found, also behind a true annotation, and one of rounding beyond the digits shown."""
    assert False in [equation.holds for equation in equations(text)]


@pytest.mark.parametrize(
    "text",
    [
        "3 = 3",
        "2x + 3 = 10",
        "x + 3 + 4 = 10",
        "5x-5 = 33",
        "5x - 3 + 5 = 33",
        "the price - 3 + 4 = 10",
        "2 * price + 3 = 9",
        "3 + 5 = 7 * price",
        "2 hours + 30 minutes = 150 minutes",
        "$0.50 * 4 = 200 cents",
        "17 / 5 = 3 remainder 2",
        "half of 10 + 4 = 9",
        "2 dozen + 1 = 25",
        "6 / 1/2 = 12",
        "120 - 30% = 84",
        "5 / 0 = 0",
        "2^999999999 = 1",
        "9 because James + 1 = 7",
        "at 3:30 + 1 = 4:30",
        "3 + 4 <= 9",
        "3 +\n4 = 8",
        "3 + 4 = ",
        "",
    ],
)
def test_what_the_numbers_alone_do_not_say_is_no_equation(text: str) -> None:
    """Algebra, mixed units, words that change a number, divisions by zero and absurd sizes are passed over."""
    assert equations(text) == ()


def test_an_equation_has_its_values_and_its_place() -> None:
    """The span covers the sides without the words behind them, and the values are in order."""
    text = "First:\nso 3 eggs + 4 = 7 eggs left. Then 2 * 7 = 15"
    first, second = equations(text)
    assert text[first.start : first.end] == "3 eggs + 4 = 7"
    assert list(first.values) == [7, 7]
    assert text[second.start : second.end] == "2 * 7 = 15"
    assert list(second.values) == [14, 15]


def test_an_annotation_counts_only_where_it_says_something_else() -> None:
    """GSM8K's calculator annotations repeat the equation around them; one that differs is an equation of its own."""
    assert len(equations("3*3 = <<3*3=9>>9")) == 1
    assert [e.holds for e in equations("5% of 100 is <<100*.05=5>>5")] == [True]
    assert [e.holds for e in equations("19.50 * .25 = <<20*.25=5>>5")] == [False, True]


_OPERATORS = st.sampled_from("+-*/")
_SUMS = st.recursive(
    st.integers(0, 99).map(str),
    lambda inner: st.tuples(inner, _OPERATORS, inner).map(lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"),
    max_leaves=6,
)


@given(_SUMS, _OPERATORS, _SUMS)
@settings(max_examples=200, deadline=None)
def test_an_expression_has_the_value_that_python_gives_it(left: str, operator: str, right: str) -> None:
    """Brackets and precedence are those of Python's own exact fractions; what has no value is never false."""
    text = f"{left} {operator} {right}"
    try:
        expected = eval(re.sub(r"(\d+)", r"Fraction(\1)", text), {"Fraction": Fraction})
    except ZeroDivisionError:
        assert all(equation.holds for equation in equations(f"{text} = 1"))
        return
    written = f"({expected.numerator})/{expected.denominator}"
    (found,) = equations(f"{text} = {written}")
    assert found.holds
    assert found.values == (expected, expected)


@given(st.text(alphabet="0123456789+-*/^()=<>%.,$ xof\n\\{}", max_size=80))
@settings(max_examples=300, deadline=None)
def test_no_text_is_an_error(text: str) -> None:
    """Any string of the signs of arithmetic gives equations or none, each inside the text."""
    for equation in equations(text):
        assert 0 <= equation.start < equation.end <= len(text)


@pytest.mark.parametrize(
    "text",
    [
        "=" + "1+" * 20_000,
        "=" + "(" * 50_000,
        "=" + "(1+" * 25_000,
        "=" + "1*9" * 25_000,
        "=" + "-" * 50_000,
        "=" + "9" * 1_000_000,
        "=" + "1 2/3" * 20_000,
        "((((((((((" + "1+" * 20_000 + "1 a))))))))))=",
        "<<" * 50_000,
        "1=" * 20_000,
        "^" * 50_000 + "=" + " " * 50_000,
    ],
    ids=lambda text: f"{text[:8]}...",
)
def test_an_adversarial_text_takes_linear_time(text: str) -> None:
    """A hundred kilobytes that would ruin a backtracking parser are read within the test's time limit."""
    assert all(equation.holds in (True, False) for equation in equations(text))

"""The final answer of a completion, and whether it is the reference's."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.text.answer import final_answer, reference_answer, same_answer, same_plain_answer


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("<answer>1</answer> no, <answer> 2 </answer>", "2"),
        ("<answer></answer> the answer is 5", None),
        ("<answer>7", None),
        (r"so \boxed{1} or \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{1", None),
        ("6 + 1 = 7\n#### 7", "7"),
        ("6 + 1 = 7\nA: 1,000", "1,000"),
        ("**Answer:** 7", "7"),
        ("So the answer is $7. It was easy.", "$7"),
        ("The final answer is: **7.5**.", "7.5"),
        ("12 and 7", None),
        ("", None),
        ("<answer>" * 100_000, None),
        ("answer is " * 100_000, None),
        (r"\boxed{" * 100_000, None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_the_final_answer_is_the_last_that_is_marked_as_one(completion: str, answer: str | None) -> None:
    """Tags come first, then a box, then a line or a sentence that says so; a lone number is no answer."""
    found = final_answer(completion)
    assert found == answer if answer is not None else found is None or found.startswith("answer is")


def test_the_tag_can_be_chosen() -> None:
    """Another tag than `answer` is read when it is named."""
    assert final_answer("<result>3</result>", "result") == "3"


def test_the_answer_of_a_reference_is_its_last_line_or_all_of_it() -> None:
    """A worked solution ends in its answer; a bare answer is itself."""
    assert reference_answer("3 + 4 = 7\n#### 7") == "7"
    assert reference_answer("7 apples") == "7 apples"


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        ("18 dollars per day", "18", True),
        ("$1,200.50", "1200.5", True),
        ("085.0", "85", True),
        ("-5", "−5", True),
        ("-$5", "$-5", True),
        ("1/2", "0.5", True),
        (r"\frac{1}{2}", "1/2", True),
        ("2 1/2", "2.5", True),
        (r"2\frac{1}{2}", "2.5", True),
        ("1/3", "0.333333333333", True),
        ("1/3", "0.33", False),
        ("1e3", "1000", True),
        ("1.5 million", "1,500,000", True),
        (r"1{,}000", "1000", True),
        ("50%", "0.5", True),
        (r"50\%", "50", True),
        ("50%", ".5%", False),
        ("Paris.", "paris", True),
        ("Paris", "London", False),
        ("2 or 3", "2", False),
        ("1/0", "1", None),
        ("nan", "nan", False),
        ("", "", False),
        ("2x", "2", None),
        ("x+1", "1+x", None),
        ("1e999999999", "1e999999998", None),
        ("9" * 100_000, "9", False),
        ("(" * 100_000, "9", False),
    ],
    ids=lambda value: str(value)[:20],
)
def test_plain_answers_compare_as_numbers_or_as_texts(answer: str, reference: str, same: bool | None) -> None:
    """Separators, units, fractions and percentages do not matter; what needs algebra is left open."""
    assert same_plain_answer(answer, reference) is same
    assert same_plain_answer(reference, answer) is same


@given(st.fractions(), st.sampled_from(["", "$"]), st.sampled_from(["", " eggs", "."]))
def test_a_number_is_the_same_however_it_is_dressed(number: object, before: str, after: str) -> None:
    """Every fraction equals itself with a currency sign, a unit or a full stop."""
    assert same_plain_answer(f"{before}{number}{after}", str(number)) is True


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        ("x+1", "1+x", True),
        ("(x-1)(x+1)", "x^2-1", True),
        (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}", True),
        (r"2\pi", "2*pi", True),
        ("(1, 2)", "(1,2)", True),
        ("x = 5", "5", True),
        ("2x", "2", False),
        ("x+1", "x+2", False),
    ],
)
def test_expressions_compare_by_algebra(answer: str, reference: str, same: bool) -> None:
    """What is equal for every value of its variables is the same answer."""
    assert same_answer(answer, reference) is same


def test_without_math_verify_numbers_compare_and_expressions_name_the_extra() -> None:
    """The optional library is asked for with its pip line, and only where it is needed."""
    code = """
import sys
sys.modules["math_verify"] = None
from toolkit.text.answer import same_answer
assert same_answer("1,200", "1200") and not same_answer("Paris", "London")
try:
    same_answer("x+1", "1+x")
except Exception as error:
    print(type(error).__name__, error)
"""
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.startswith("MissingExtra")
    assert "pip install 'grpo-toolkit[math]'" in run.stdout

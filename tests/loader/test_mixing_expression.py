"""The language of mixes: what it gives, and that nothing hostile gets further than an error."""

import string
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loader.dtypes import Array
from loader.mixing import row_functions
from loader.mixing.evaluation import evaluate
from loader.mixing.expression import MAX_CHARACTERS, Fact, Input, Output, Reference, parse_expression, references
from loader.mixing.rows import Rows
from loader.mixing.vocabulary import FUNCTIONS, OPERATORS
from loader.status import Code, ServingError

VALUES: dict[Reference, Array] = {
    Input("x"): np.array([[0.1, 0.7, 0.2], [0.5, 0.25, 0.25]], np.float32),
    Input("n"): np.array([3, -1], np.int64),
    Input("name"): np.array([b"cat", b"dog"], object),
    Input("ok"): np.array([True, False]),
    Output("small", "scores"): np.array([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]], np.float32),
    Fact("ran", "small"): np.array([True, True]),
}


def found(text: str) -> Any:
    return evaluate(parse_expression(text), Rows(2, VALUES)).tolist()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1 + 2 * 3 - 4 / 2", [5, 5]),
        ("-(1 + 2) * -2", [6, 6]),
        ("n[0]", None),
        ("n + 1", [4, 0]),
        ("max(small.scores) < 0.8 and not ok", [False, True]),
        ("true or ok and false", [True, True]),
        ("max(x) - min(x) > 0.5", [True, False]),
        ("argmax(x)", [1, 0]),
        ("x[0:2]", [[np.float32(0.1).item(), np.float32(0.7).item()], [0.5, 0.25]]),
        ("x[1] == max(x)", [True, False]),
        ('name == "cat"', [True, False]),
        ("if(ok, name, 'bird')", [b"cat", b"bird"]),
        ("if(name != 'cat', 1, n)", [3, 1]),
        ("vote(argmax(x), argmax(small.scores), 0)", [0, 0]),
        ("vote(1, 2)", [1, 1]),
        ("vote(name, 'dog', 'dog')", [b"dog", b"dog"]),
        ("average(n, 1)", [2, 0]),
        ("concat(n, n + 1)", [[3, 4], [-1, 0]]),
        ("max(n, 0, 1)", [3, 1]),
        ("round(sum(small.scores))", [1, 1]),
        ("mean(small.scores[1:3])", [0.25, 0.25]),
        ("margin(small.scores)", [0.25, 0.25]),
        ("entropy(small.scores * 0)", [0, 0]),
        ("all(small.scores > 0.3) or any(small.scores > 0.3)", [True, True]),
        ("round(sum(softmax(small.scores)))", [1, 1]),
        ("small.scores * max(small.scores)", [[0.25, 0.125, 0.125]] * 2),
        ("abs(n) + exp(0) + log(1) + sqrt(4)", [6, 4]),
        ("ran(small)", [True, True]),
    ],
)
def test_an_expression_gives_a_value_for_each_row(text: str, wanted: Any) -> None:
    if wanted is None:
        with pytest.raises(ServingError, match="there are 0 columns"):
            found(text)
    else:
        assert found(text) == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "found 'the end' at 0, wanted a value"),
        ("__import__('os').system('id')", "there is no function '__import__'"),
        ("x.__class__.__mro__", "found '.' at 11"),
        ("(lambda: 1)()", "found ':' at 7"),
        ("x[-1]", "wanted a whole number"),
        ("x[1:1]", "the columns"),
        ("1 < 2 < 3", "'and' between two comparisons"),
        ("1 +", "wanted a value"),
        ("max()", "max() takes 1 to 16 arguments"),
        ("max(1, )", "wanted a value"),
        ("if(true, 1)", "if() takes 3 arguments"),
        ("ran(1)", "wanted the name of a step"),
        ("x ** 9", "wanted a value"),
        ("1; 2", "has no meaning here"),
        ("'a\\n'", "has no meaning here"),
        ("x := 1", "'=' at 3 has no meaning"),
        ("(" * 40 + "1" + ")" * 40, "more than 32 levels deep"),
        ("not " * 40 + "true", "more than 32 levels deep"),
        ("-" * 2000 + "1", "characters"),
        ("+".join("1" * 300), "more than 256 parts"),
        (f"vote({','.join('1' * 30)})", "takes 2 to 16 arguments"),
        ("x[99999999999]", "wanted a whole number"),
    ],
)
def test_what_is_no_expression_is_refused_with_its_place(text: str, words: str) -> None:
    with pytest.raises(ServingError) as error:
        parse_expression(text)
    assert error.value.code is Code.INVALID_ARGUMENT
    assert words in error.value.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name + 1", "+ takes numbers, found text"),
        ("n and true", "and takes truth values, found int64"),
        ("x[3]", "there are 3 columns"),
        ("x + x[0:2]", "these shapes do not go together"),
        ("if(ok, name, 1)", "text and numbers"),
        ("name == 1", "text and numbers"),
        ("argmax(n)", "a list of numbers for each row"),
    ],
)
def test_values_that_do_not_fit_are_refused(text: str, words: str) -> None:
    with pytest.raises(ServingError) as error:
        found(text)
    assert error.value.code is Code.FAILED_PRECONDITION
    assert words in error.value.message


def test_a_result_that_would_be_too_large_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_functions, "MAX_VALUE_BYTES", 100)
    assert found("n + 1") == [4, 0]
    for text in ("concat(x, x, x, x)", "x + small.scores[0:3] + concat(x, x, x, x)[0:3]"):
        with pytest.raises(ServingError) as error:
            found(text)
        assert error.value.code is Code.RESOURCE_EXHAUSTED


OUTER = {Input("a"): np.ones((1, 4000)), Input("b"): np.ones((1, 1, 4000))}
"""32 KB each; `a + b` has 16 million numbers."""


@pytest.mark.parametrize(
    "text",
    [
        f"vote({', '.join(['a + b'] * 16)})",
        f"max({', '.join(['a + b'] * 16)})",
        "(a + b) * ((a + b) * ((a + b) * (a + b)))",
        "vote(a + b, b, b)",
    ],
)
def test_what_an_expression_holds_at_a_time_is_limited_before_it_is_computed(text: str) -> None:
    with pytest.raises(ServingError) as error:
        evaluate(parse_expression(text), Rows(1, OUTER))
    assert error.value.code is Code.RESOURCE_EXHAUSTED
    assert "268435456 bytes" in error.value.message


@pytest.mark.parametrize(
    "text",
    [
        "x" + " + 1" * 126,
        "x" + "[0:3]" * 250,
        "-" * 30 + "max(x)",
        "max(" * 31 + "x" + ")" * 31,
        "if(ok, " * 30 + "1" + ", 2)" * 30,
        " and ".join(["ok"] * 120),
    ],
)
def test_the_largest_expressions_there_can_be_are_computed_on_a_deep_stack(text: str) -> None:
    def deep(frames: int) -> Array:
        return deep(frames - 1) if frames else evaluate(parse_expression(text), Rows(2, VALUES))

    assert len(deep(200)) == 2
    assert [*references(parse_expression(text))]


def test_every_function_of_the_vocabulary_is_there_and_no_other() -> None:
    assert row_functions.FUNCTIONS.keys() == FUNCTIONS.keys() | OPERATORS.keys()


WORDS = [*FUNCTIONS, *OPERATORS, "ran", "failed", "x", "n", "name", "ok", "small", "scores", "x.", ".scores", "'a'"]
PIECES = st.lists(
    st.sampled_from([*WORDS, *"()[]{}.,:+-*/<>=!'\"\\", "0", "1.5", "1e999", "9" * 20, "__class__", " "])
    | st.text(string.printable, max_size=4),
    max_size=40,
).map(" ".join)


@given(PIECES | st.text(max_size=MAX_CHARACTERS + 10))
@example("((((" * 500)
@example("x[" * 900)
@example("max(" * 400)
@example("\u0663 + \uff58")
def test_whatever_is_written_is_a_value_or_an_error(text: str) -> None:
    try:
        expression = parse_expression(text)
        if set(references(expression)) <= VALUES.keys():
            value = evaluate(expression, Rows(2, VALUES))
            assert value.shape[0] == 2
    except ServingError as error:
        if error.code not in (Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION):
            raise


def expressions() -> st.SearchStrategy[str]:
    leaves = st.sampled_from(
        ["x", "n", "name", "ok", "small.scores", "ran(small)", "0.5", "2", "true", "'cat'", "x[1]"]
    )

    def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        calls = [
            st.lists(inner, min_size=least, max_size=min(3, most)).map(lambda a, f=name: f"{f}({', '.join(a)})")
            for name, (least, most) in FUNCTIONS.items()
        ]
        signs = [
            st.tuples(inner, inner).map(lambda p, s=sign: f"({p[0]} {s} {p[1]})")
            for sign, (least, _) in OPERATORS.items()
            if least == 2
        ]
        return st.one_of(*calls, *signs, inner.map(lambda a: f"(not {a})"), inner.map(lambda a: f"-{a}"))

    return st.recursive(leaves, larger, max_leaves=8)


@given(expressions())
def test_all_rows_at_once_and_each_row_alone_give_the_same(text: str) -> None:
    expression = parse_expression(text)
    rows = Rows(2, VALUES)
    try:
        whole = evaluate(expression, rows)
    except ServingError:
        return
    for row in range(2):
        alone = evaluate(expression, rows.take(np.array([row])))
        assert alone.dtype == whole.dtype
        if whole.dtype.kind == "O":
            assert alone.tolist() == whole[row : row + 1].tolist()
        else:
            np.testing.assert_array_equal(alone, whole[row : row + 1])

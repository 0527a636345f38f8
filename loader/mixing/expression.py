"""Expressions over the rows of a batch: text becomes a small tree. No numpy, nothing is computed here.

    max(small.scores) < 0.8 and not failed(small)
    if(ran(large), large.scores, small.scores[0:10])

    or      = and ("or" and)*              and     = not ("and" not)*
    not     = "not" not | compare          compare = sum (("<"|"<="|">"|">="|"=="|"!=") sum)?
    sum     = product (("+"|"-") product)* product = unary (("*"|"/") unary)*
    unary   = "-" unary | item             item    = atom ("[" number (":" number)? "]")*
    atom    = number | text | "true" | "false" | call | step "." output | input | "(" or ")"

Names are inputs of the mix, outputs of its steps, and the functions of `loader.mixing.vocabulary`: there is nothing
else that a name could reach. Every tree is small: `MAX_CHARACTERS`, `MAX_NODES`, `MAX_DEPTH`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from loader.mixing.vocabulary import FACTS, FUNCTIONS
from loader.status import Code, ServingError

MAX_CHARACTERS = 2000
"""Of one expression."""

MAX_NODES = 256
"""Numbers, names, operators and calls of one expression."""

MAX_DEPTH = 32
"""How deep parentheses, calls and signs may stand inside each other."""

MAX_INDEX = 1 << 24
"""The highest number between brackets."""

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<text>"[^"\\]*"|'[^'\\]*')
    |(?P<sign><=|>=|==|!=|[-+*/<>()\[\],.:])
    )""",
    re.VERBOSE | re.ASCII,
)
_COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
_WORDS = ("and", "or", "not", "true", "false")


@dataclass(frozen=True, slots=True)
class Constant:
    """A number, a truth value, or a text as UTF-8."""

    value: float | bool | bytes


@dataclass(frozen=True, slots=True)
class Input:
    """An input of the mix."""

    name: str


@dataclass(frozen=True, slots=True)
class Output:
    """An output of a step."""

    step: str
    name: str


@dataclass(frozen=True, slots=True)
class Fact:
    """What became of a step in each row: one of `FACTS`."""

    name: str
    step: str


@dataclass(frozen=True, slots=True)
class Apply:
    """A function or an operator over its arguments."""

    function: str
    arguments: "tuple[Expression, ...]"


@dataclass(frozen=True, slots=True)
class Item:
    """One column, or with `stop` the columns from `start` up to it, of the first dimension after the rows."""

    value: "Expression"
    start: int
    stop: int | None


Reference = Input | Output | Fact
Expression = Constant | Input | Output | Fact | Apply | Item


def parse_expression(text: str) -> Expression:
    """The tree of an expression.

    Raises:
        ServingError: INVALID_ARGUMENT, naming the place and what was wanted there.
    """
    if len(text) > MAX_CHARACTERS:
        raise _wrong(text[:40] + "...", f"it has {len(text)} characters, at most {MAX_CHARACTERS} are taken")
    return _Parser(text).whole()


def references(expression: Expression) -> Iterator[Reference]:
    """The inputs, outputs and facts that an expression reads, each as often as it does."""
    if isinstance(expression, Apply):
        for argument in expression.arguments:
            yield from references(argument)
    elif isinstance(expression, Item):
        yield from references(expression.value)
    elif not isinstance(expression, Constant):
        yield expression


class _Parser:
    """One pass over the text, one method for each line of the grammar."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str, int]] = []
        at = 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if match is None:
                place = at + len(text[at:]) - len(text[at:].lstrip())
                raise _wrong(text, f"{text[place]!r} at {place} has no meaning here")
            at = match.end()
            kind = str(match.lastgroup)
            self._tokens.append((kind, match[kind], match.start(kind)))
        self._tokens.append(("end", "the end", len(text)))
        self._at = 0
        self._nodes = 0
        self._depth = 0

    def whole(self) -> Expression:
        found = self._or()
        if self._kind != "end":
            raise self._unexpected("an operator or the end")
        return found

    @property
    def _kind(self) -> str:
        return self._tokens[self._at][0]

    @property
    def _value(self) -> str:
        return self._tokens[self._at][1]

    def _is(self, *values: str) -> bool:
        return self._kind in ("sign", "name") and self._value in values

    def _take(self) -> str:
        value = self._value
        self._at += 1
        return value

    def _want(self, sign: str) -> None:
        if not self._is(sign):
            raise self._unexpected(f"{sign!r}")
        self._at += 1

    def _unexpected(self, wanted: str) -> ServingError:
        _, value, place = self._tokens[self._at]
        return _wrong(self._text, f"found {value!r} at {place}, wanted {wanted}")

    def _node(self, node: Expression) -> Expression:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _wrong(self._text, f"it has more than {MAX_NODES} parts")
        return node

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _wrong(self._text, f"it is more than {MAX_DEPTH} levels deep")

    def _or(self) -> Expression:
        self._deeper()
        left = self._and()
        while self._is("or"):
            left = self._node(Apply(self._take(), (left, self._and())))
        self._depth -= 1
        return left

    def _and(self) -> Expression:
        left = self._not()
        while self._is("and"):
            left = self._node(Apply(self._take(), (left, self._not())))
        return left

    def _not(self) -> Expression:
        if not self._is("not"):
            return self._compare()
        self._deeper()
        found = self._node(Apply(self._take(), (self._not(),)))
        self._depth -= 1
        return found

    def _compare(self) -> Expression:
        left = self._sum()
        if self._is(*_COMPARISONS):
            left = self._node(Apply(self._take(), (left, self._sum())))
            if self._is(*_COMPARISONS):
                raise self._unexpected("'and' between two comparisons")
        return left

    def _sum(self) -> Expression:
        left = self._product()
        while self._is("+", "-"):
            left = self._node(Apply(self._take(), (left, self._product())))
        return left

    def _product(self) -> Expression:
        left = self._unary()
        while self._is("*", "/"):
            left = self._node(Apply(self._take(), (left, self._unary())))
        return left

    def _unary(self) -> Expression:
        if not self._is("-"):
            return self._item()
        self._at += 1
        self._deeper()
        found = self._node(Apply("negative", (self._unary(),)))
        self._depth -= 1
        return found

    def _item(self) -> Expression:
        found = self._atom()
        while self._is("["):
            self._at += 1
            start, stop = self._index(), None
            if self._is(":"):
                self._at += 1
                stop = self._index()
                if stop <= start:
                    raise _wrong(self._text, f"the columns [{start}:{stop}] are none")
            self._want("]")
            found = self._node(Item(found, start, stop))
        return found

    def _index(self) -> int:
        if self._kind != "number" or not self._value.isdecimal() or len(self._value) > 8:
            raise self._unexpected("a whole number")
        index = int(self._take())
        if index > MAX_INDEX:
            raise _wrong(self._text, f"the column {index} is over {MAX_INDEX}")
        return index

    def _atom(self) -> Expression:
        if self._kind == "number":
            return self._node(Constant(float(self._take())))
        if self._kind == "text":
            return self._node(Constant(self._take()[1:-1].encode("utf-8", "surrogatepass")))
        if self._is("true", "false"):
            return self._node(Constant(self._take() == "true"))
        if self._is("("):
            self._at += 1
            found = self._or()
            self._want(")")
            return found
        if self._kind != "name" or self._value in _WORDS:
            raise self._unexpected("a value")
        name = self._take()
        if self._is("("):
            self._at += 1
            return self._call(name)
        if not self._is("."):
            return self._node(Input(name))
        self._at += 1
        if self._kind == "text":
            return self._node(Output(name, self._take()[1:-1]))
        if self._kind != "name":
            raise self._unexpected("the name of an output")
        return self._node(Output(name, self._take()))

    def _call(self, name: str) -> Expression:
        if name in FACTS:
            if self._kind != "name":
                raise self._unexpected("the name of a step")
            step = self._take()
            self._want(")")
            return self._node(Fact(name, step))
        if name not in FUNCTIONS:
            raise _wrong(self._text, f"there is no function {name!r}, wanted one of {', '.join((*FUNCTIONS, *FACTS))}")
        least, most = FUNCTIONS[name]
        arguments: list[Expression] = []
        if not self._is(")"):
            arguments.append(self._or())
            while self._is(",") and len(arguments) <= most:
                self._at += 1
                arguments.append(self._or())
        if not least <= len(arguments) <= most:
            wanted = f"{least}" if least == most else f"{least} to {most}"
            raise _wrong(self._text, f"{name}() takes {wanted} arguments")
        self._want(")")
        return self._node(Apply(name, tuple(arguments)))


def _wrong(text: str, why: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, f"expression {text!r}: {why}")

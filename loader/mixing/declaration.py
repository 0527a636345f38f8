"""What `mix.json` says: the inputs, steps and outputs of a mix. No numpy: those who only look at storage read it too.

    {
      "inputs":  {"image": {"dtype": "float32", "shape": [-1, 8, 8]}},
      "steps": {
        "small": {"model": "digits", "label": "stable", "inputs": {"image": "image"}},
        "large": {"url": "http://digits-large.models.svc.cluster.local", "model": "digits",
                  "inputs": {"image": "image"}, "when": "max(small.scores) < 0.8", "deadline_ms": 500,
                  "otherwise": {"scores": "small.scores"}, "fallback": {"scores": "small.scores"}}
      },
      "outputs": {"scores": {"value": "large.scores", "dtype": "float32", "shape": [-1, 10]}}
    }

Types and shapes are declared, so that metadata is answered without a look at any model: a look would wake it.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from loader.mixing.expression import Expression, Fact, Input, Output, Reference, parse_expression, references
from loader.mixing.field import read_object, wrong
from loader.mixing.target import TARGET_FIELDS, Target, parse_target
from loader.status import ServingError

MAX_BYTES = 1 << 18
"""Of that file."""

MAX_TENSORS = 32
"""Inputs of a mix, and its outputs, and the inputs of a step."""

MAX_STEPS = 32
MAXTARGET_FIELDSS = 4
"""Models that one step may try, one after the other."""

MAX_RANK = 8
DTYPES: Mapping[str, int] = {
    "float32": 1,
    "float64": 2,
    "int32": 3,
    "uint8": 4,
    "int16": 5,
    "int8": 6,
    "string": 7,
    "int64": 9,
    "bool": 10,
    "uint16": 17,
    "uint32": 22,
    "uint64": 23,
}
"""The types that a mix takes and gives, with their numbers. Source: tensorflow/core/framework/types.proto."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
_RESERVED = frozenset({"and", "or", "not", "true", "false"})


@dataclass(frozen=True, slots=True)
class Tensor:
    """The type and shape of an input or an output: the first dimension, -1, is the rows."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a model, for all rows or for some.

    Attributes:
        targets: asked one after the other until one answers.
        inputs: by the model's input name.
        when: which rows it runs for; None for all.
        otherwise: by output, the values of the rows that `when` leaves out.
        fallback: by output, the values of the rows that no target answers for; empty to fail.
        outputs: the model's outputs that somebody reads.
        needs: steps that must be over before it begins.
    """

    name: str
    targets: tuple[Target, ...]
    inputs: Mapping[str, Expression]
    when: Expression | None
    otherwise: Mapping[str, Expression]
    fallback: Mapping[str, Expression]
    outputs: tuple[str, ...]
    needs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mix:
    """A declared graph.

    Attributes:
        steps: by name; each one stands after those that it needs.
        outputs: what each output is, beside its value.
    """

    inputs: Mapping[str, Tensor]
    steps: Mapping[str, Step]
    outputs: Mapping[str, Tensor]
    values: Mapping[str, Expression]


def parse_mix(content: bytes) -> Mix:
    """Reads `mix.json`. What it gives is whole: every name is known, there is no cycle, all limits are kept.

    Raises:
        ServingError: INVALID_ARGUMENT, naming the field, what was found there, and what was wanted.
    """
    if len(content) > MAX_BYTES:
        raise wrong("", f"it has {len(content)} bytes, at most {MAX_BYTES} are read")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise wrong("", f"it is not JSON: {error}") from None
    whole = read_object("", found, required=("inputs", "steps", "outputs"))
    inputs = {
        name: _tensor(f"inputs.{name}", each, ()) for name, each in _named("inputs", whole["inputs"], MAX_TENSORS)
    }
    declared = {name: _Declared(name, each) for name, each in _named("steps", whole["steps"], MAX_STEPS)}
    clash = min(inputs.keys() & declared.keys(), default=None)
    if clash is not None:
        raise wrong(f"steps.{clash}", "an input has this name too")
    outputs: dict[str, Tensor] = {}
    values: dict[str, Expression] = {}
    for name, each in _named("outputs", whole["outputs"], MAX_TENSORS):
        outputs[name] = _tensor(f"outputs.{name}", each, ("value",))
        values[name] = _expression(f"outputs.{name}.value", each.get("value"))
    read = {reference for _, expression in _all(declared, values) for reference in references(expression)}
    for where, expression in _all(declared, values):
        for reference in references(expression):
            _check(where, reference, inputs, declared)
    for name in declared:
        if not any(isinstance(one, Output | Fact) and one.step == name for one in read):
            raise wrong(f"steps.{name}", "nothing reads what it gives: leave it out, or use it")
    return Mix(inputs, _ordered([step.step(read) for step in declared.values()]), outputs, values)


class _Declared:
    """A step as it is written."""

    def __init__(self, name: str, found: Any) -> None:
        where = f"steps.{name}"
        optional = ("run", "when", "otherwise", "fallback", *TARGET_FIELDS)
        self.name = name
        content = read_object(where, found, required=("inputs",), optional=optional)
        if "run" in content:
            extra = min(content.keys() & set(TARGET_FIELDS), default=None)
            if extra is not None:
                raise wrong(f"{where}.{extra}", "stands inside of each entry of 'run' where there is one")
            targets = content["run"]
            if not isinstance(targets, list) or not 1 <= len(targets) <= MAXTARGET_FIELDSS:
                raise wrong(f"{where}.run", f"wanted a list of 1 to {MAXTARGET_FIELDSS} models")
            self.targets = tuple(parse_target(f"{where}.run[{place}]", each) for place, each in enumerate(targets))
        else:
            self.targets = (parse_target(where, {key: content[key] for key in TARGET_FIELDS if key in content}),)
        self.inputs = _expressions(f"{where}.inputs", content["inputs"])
        self.when = _expression(f"{where}.when", content["when"]) if "when" in content else None
        self.otherwise = _expressions(f"{where}.otherwise", content.get("otherwise", {}))
        self.fallback = _expressions(f"{where}.fallback", content.get("fallback", {}))
        if self.otherwise and self.when is None:
            raise wrong(f"{where}.otherwise", "there is no 'when': the step runs for every row")

    def expressions(self) -> Iterator[tuple[str, Expression]]:
        """All of them, each with where it stands."""
        if self.when is not None:
            yield f"steps.{self.name}.when", self.when
        for field in ("inputs", "otherwise", "fallback"):
            for name, expression in getattr(self, field).items():
                yield f"steps.{self.name}.{field}.{name}", expression

    def step(self, read: Collection[Reference]) -> Step:
        """The step, now that it is known who reads it."""
        outputs = tuple(sorted(one.name for one in read if isinstance(one, Output) and one.step == self.name))
        for field, values in (("otherwise", self.otherwise), ("fallback", self.fallback)):
            if field == "fallback" and not values:
                continue
            if field == "otherwise" and self.when is None:
                continue
            lacking = [name for name in outputs if name not in values]
            if lacking:
                raise wrong(
                    f"steps.{self.name}.{field}",
                    f"no value for {lacking[0]!r}, which is read as {self.name}.{lacking[0]}",
                )
        needs = {
            reference.step
            for _, expression in self.expressions()
            for reference in references(expression)
            if isinstance(reference, Output | Fact)
        }
        return Step(
            self.name,
            self.targets,
            self.inputs,
            self.when,
            {name: self.otherwise[name] for name in outputs if name in self.otherwise},
            {name: self.fallback[name] for name in outputs if name in self.fallback},
            outputs,
            tuple(sorted(needs)),
        )


def _check(where: str, reference: Reference, inputs: Mapping[str, Tensor], steps: Mapping[str, _Declared]) -> None:
    if isinstance(reference, Input):
        if reference.name not in inputs:
            hint = f": {reference.name} is a step, wanted {reference.name}.OUTPUT" if reference.name in steps else ""
            raise wrong(where, f"no input is named {reference.name!r}: found {', '.join(inputs)}{hint}")
    elif reference.step not in steps:
        raise wrong(where, f"no step is named {reference.step!r}: found {', '.join(steps)}")


def _all(steps: Mapping[str, _Declared], values: Mapping[str, Expression]) -> Iterator[tuple[str, Expression]]:
    for step in steps.values():
        yield from step.expressions()
    for name, expression in values.items():
        yield f"outputs.{name}.value", expression


def _ordered(steps: Collection[Step]) -> dict[str, Step]:
    ordered: dict[str, Step] = {}
    waiting = {step.name: step for step in steps}
    while waiting:
        ready = [step for step in waiting.values() if all(need in ordered for need in step.needs)]
        if not ready:
            raise wrong("steps", f"these need each other in a circle: {', '.join(waiting)}")
        for step in ready:
            ordered[step.name] = waiting.pop(step.name)
    return ordered


def _tensor(where: str, found: Any, more: tuple[str, ...]) -> Tensor:
    content = read_object(where, found, required=("dtype", "shape", *more))
    dtype, shape = content["dtype"], content["shape"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise wrong(f"{where}.dtype", f"found {str(dtype)[:40]!r}, wanted one of {', '.join(DTYPES)}")
    if not isinstance(shape, list) or not 1 <= len(shape) <= MAX_RANK or not all(_is_size(size) for size in shape):
        raise wrong(f"{where}.shape", f"wanted [-1, ...], 1 to {MAX_RANK} sizes, -1 for one that varies")
    if shape[0] != -1:
        raise wrong(f"{where}.shape", f"the first size is {shape[0]}, wanted -1: the rows of a batch")
    return Tensor(dtype, tuple(shape))


def _is_size(size: Any) -> bool:
    return isinstance(size, int) and not isinstance(size, bool) and -1 <= size < 1 << 31


def _expressions(where: str, found: Any) -> dict[str, Expression]:
    if not isinstance(found, dict) or len(found) > MAX_TENSORS:
        raise wrong(where, f'wanted {{"name": "expression"}} with at most {MAX_TENSORS} names')
    return {name: _expression(f"{where}.{name}", each) for name, each in found.items()}


def _expression(where: str, found: Any) -> Expression:
    if not isinstance(found, str):
        raise wrong(where, f"found {str(found)[:40]!r}, wanted an expression as text")
    try:
        return parse_expression(found)
    except ServingError as error:
        raise wrong(where, error.message) from None


def _named(where: str, found: Any, most: int) -> Iterator[tuple[str, Any]]:
    if not isinstance(found, dict) or not 1 <= len(found) <= most:
        raise wrong(where, f"wanted an object with 1 to {most} names")
    for name, each in found.items():
        if not _NAME.fullmatch(name) or name in _RESERVED:
            raise wrong(where, f"{name[:80]!r} is no name: wanted letters, digits and _, at most 64")
        yield name, each

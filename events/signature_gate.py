"""Signature gate: a new version has to take what callers of the serving one send, and give what they read.

Read from `GET /v1/models/m/versions/7/metadata` of both revisions: that is what each really serves, whatever form its
files have. What counts as a break:

- a signature, an input or an output that is gone, or has another dtype;
- an input that is new and has no default, or lost the one it had;
- an input whose shape takes less than before: another rank, a size where any was taken, another size;
- an output whose shape is another one: callers have buffers and layers of the known sizes. A known size that is now
  unknown is let through;
- an output beside what was the only one: REST then answers rows as objects where they were plain values;
- classify or regress that became something else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from events.gate import GateUnsureError, Subject, Verdict, reasons_text
from events.gate_http import Peer, PeerError

Shape = tuple[int, ...] | None
"""Sizes, -1 for an unknown one; None for an unknown rank."""

_PREDICT = "tensorflow/serving/predict"
INTERNAL_SIGNATURE = "__saved_model_init_op"
"""Names the initialiser of a SavedModel; nobody calls it."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output: its dtype as `DT_FLOAT`, its shape, and whether it may be left out."""

    dtype: str
    shape: Shape
    defaulted: bool = False


@dataclass(frozen=True, slots=True)
class Promise:
    """What a signature takes and gives, by alias."""

    method: str
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


class SignatureGate:
    """Compares the two revisions' signatures."""

    name = "signatures"

    def judge(self, subject: Subject) -> Verdict:
        """See `events.gate.Gate`."""
        if subject.old is None or subject.settings.signatures == "ignore":
            return Verdict(passed=True, words="nothing to compare with" if subject.old is None else "not compared")
        old = _signatures(subject.old, subject.model, subject.old_version)
        new = _signatures(subject.new, subject.model, subject.version)
        broken = breaks(old, new)
        if broken:
            return Verdict(passed=False, words=reasons_text(broken))
        return Verdict(passed=True, words=f"{len(old)} signatures keep what they promised")


def _signatures(peer: Peer, model: str, version: int | None) -> dict[str, Promise]:
    path = f"/v1/models/{model}{'' if version is None else f'/versions/{version}'}/metadata"
    try:
        answer = peer.read(path)
    except PeerError as error:
        raise GateUnsureError(str(error)) from None
    if answer.status != 200:
        raise GateUnsureError(f"{peer.url}{path} answers {answer.status}")
    return promises(answer.content)


def promises(metadata: Any) -> dict[str, Promise]:
    """The signatures of a metadata answer, by name.

    Raises:
        GateUnsureError: it is none.
    """
    try:
        found = metadata["metadata"]["signature_def"]["signature_def"]
        return {
            name: Promise(
                one["method_name"],
                {alias: _tensor(info, alias in one.get("defaults", {})) for alias, info in one["inputs"].items()},
                {alias: _tensor(info, defaulted=False) for alias, info in one["outputs"].items()},
            )
            for name, one in found.items()
            if name != INTERNAL_SIGNATURE
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise GateUnsureError(f"the metadata of a revision cannot be read: {error!r:.200}") from None


def _tensor(info: Mapping[str, Any], defaulted: bool) -> Tensor:
    shape = info.get("tensor_shape") or {}
    sizes = None if shape.get("unknown_rank") else tuple(int(size.get("size", 0)) for size in shape.get("dim", ()))
    return Tensor(str(info["dtype"]), sizes, defaulted)


def breaks(old: Mapping[str, Promise], new: Mapping[str, Promise]) -> list[str]:
    """What callers of `old` lose with `new`, one line each; empty when nothing. Pure."""
    found = []
    for name, before in sorted(old.items()):
        after = new.get(name)
        if after is None:
            there = ", ".join(sorted(new)) or "none"
            found.append(f"signature '{name}' is gone; there are: {there}")
            continue
        where = f"signature '{name}'"
        if before.method not in {after.method, _PREDICT}:
            found.append(f"{where}: method {before.method} is now {after.method}")
        found += _inputs(where, before, after)
        found += _outputs(where, before, after)
    return found


def _inputs(where: str, before: Promise, after: Promise) -> list[str]:
    found = []
    for alias, taken in sorted(before.inputs.items()):
        takes = after.inputs.get(alias)
        if takes is None:
            found.append(f"{where}: input '{alias}' is gone")
            continue
        if takes.dtype != taken.dtype:
            found.append(f"{where}: input '{alias}' was {taken.dtype}, is {takes.dtype}")
        if not _covers(takes.shape, taken.shape):
            found.append(f"{where}: input '{alias}' took {_text(taken.shape)}, takes only {_text(takes.shape)}")
        if taken.defaulted and not takes.defaulted:
            found.append(f"{where}: input '{alias}' has no default any more")
    found += [
        f"{where}: input '{alias}' is new and has no default"
        for alias, takes in sorted(after.inputs.items())
        if alias not in before.inputs and not takes.defaulted
    ]
    return found


def _outputs(where: str, before: Promise, after: Promise) -> list[str]:
    found = []
    for alias, given in sorted(before.outputs.items()):
        gives = after.outputs.get(alias)
        if gives is None:
            found.append(f"{where}: output '{alias}' is gone")
            continue
        if gives.dtype != given.dtype:
            found.append(f"{where}: output '{alias}' was {given.dtype}, is {gives.dtype}")
        # An unknown size may still be the known one.
        if not (_covers(given.shape, gives.shape) or _covers(gives.shape, given.shape)):
            found.append(f"{where}: output '{alias}' was {_text(given.shape)}, is {_text(gives.shape)}")
    if len(before.outputs) == 1 < len(after.outputs) and before.outputs.keys() <= after.outputs.keys():
        more = ", ".join(f"'{alias}'" for alias in sorted(after.outputs.keys() - before.outputs.keys()))
        found.append(f"{where}: output {more} beside the only one makes REST answer objects instead of values")
    return found


def _covers(wide: Shape, narrow: Shape) -> bool:
    """Whether every tensor of shape `narrow` is one of shape `wide`."""
    if wide is None:
        return True
    if narrow is None or len(wide) != len(narrow):
        return False
    return all(size in (-1, other) for size, other in zip(wide, narrow, strict=True))


def _text(shape: Shape) -> str:
    return "any shape" if shape is None else "[" + ", ".join("?" if size < 0 else str(size) for size in shape) + "]"

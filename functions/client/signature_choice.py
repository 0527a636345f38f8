"""Which of a model's signatures a caller can mean."""

from collections.abc import Mapping

from loader.signature import DEFAULT_SIGNATURE, Signature
from loader.status import Code, ServingError

INITIALISER = "__saved_model_init_op"
"""A pseudo-signature that TensorFlow 2 puts beside the real ones: an operation without inputs, run while loading.

Source: tensorflow/cc/saved_model/constants.h, kSavedModelInitOpSignatureKey.
"""


def runnable(signatures: Mapping[str, Signature]) -> dict[str, Signature]:
    """The signatures that answer predictions, by name."""
    return {name: signatures[name] for name in sorted(signatures) if name != INITIALISER}


def choose(signatures: Mapping[str, Signature], name: str) -> Signature:
    """The signature `name`; without a name the default one, or the model's only one.

    Raises:
        ServingError: INVALID_ARGUMENT, naming those that there are.
    """
    wanted = name or DEFAULT_SIGNATURE
    found = signatures.get(wanted)
    if found is not None:
        return found
    answering = runnable(signatures)
    if not name and len(answering) == 1:
        return next(iter(answering.values()))
    raise ServingError(
        Code.INVALID_ARGUMENT,
        f"the model has no signature '{wanted}': choose one with the parameter `signature_name`, found {[*answering]}",
    )

"""A mix of models in services of their own: the large one sleeps for as long as the small one is sure."""

import json
from pathlib import Path

from tests.e2e.ingress import eventually
from tests.e2e.place import Place, needs_cluster

pytestmark = needs_cluster

ZERO_SECONDS = 120.0


def mix(here: Place) -> dict[str, object]:
    """Asks `large` for the rows that `small` makes more than 4 of."""

    def step(model: str, **more: object) -> dict[str, object]:
        url = f"http://{model}.{here.namespace}.svc.cluster.local"
        return {"model": model, "url": url, "inputs": {"x": "x"}, **more}

    return {
        "inputs": {"x": {"dtype": "float32", "shape": [-1]}},
        "steps": {"small": step("small"), "large": step("large", when="small.y > 4", otherwise={"y": "small.y"})},
        "outputs": {
            "y": {"value": "large.y", "dtype": "float32", "shape": [-1]},
            "escalated": {"value": "ran(large)", "dtype": "bool", "shape": [-1]},
        },
    }


def test_a_large_model_that_is_at_zero_stays_there_until_the_small_one_is_unsure(here: Place, tmp_path: Path):
    for model in ("small", "large"):
        here.deploy(model, here.upload(model, 1))
    (tmp_path / "mix.json").write_text(json.dumps(mix(here)))
    here.deploy("mixed", here.upload("mixed", 1, tmp_path))
    mixed = here.service("mixed")

    def asked(*numbers: float) -> list[tuple[float, bool]]:
        answer = mixed.ask("POST", "/v1/models/mixed:predict", json.dumps({"instances": list(numbers)}).encode())
        assert answer.status == 200, answer.body
        return [(row["y"], row["escalated"]) for row in answer.json["predictions"]]

    eventually(lambda: not here.pods("large"), ZERO_SECONDS)
    assert asked(1.0, 2.0) == [(2.5, False), (3.0, False)]
    assert [asked(1.0) for _ in range(20)] == [[(2.5, False)]] * 20
    assert here.pods("small")
    assert not here.pods("large")
    (deployment,) = here.get("deployments", "-l", "serving.knative.dev/service=large")["items"]
    assert deployment["spec"]["replicas"] == 0

    # One row of three wakes it; all come back in their order.
    assert asked(1.0, 8.0, 2.0) == [(2.5, False), (6.0, True), (3.0, False)]
    assert here.pods("large")

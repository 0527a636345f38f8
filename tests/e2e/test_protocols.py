"""One URL, every protocol: REST, gRPC and the Open Inference Protocol through the ingress, any version, any label."""

import json

import grpc
import pytest

from functions.proto import open_inference_pb2 as oip
from functions.proto import open_inference_pb2_grpc as oip_grpc
from tests.e2e.ingress import ANSWER, Service
from tests.e2e.place import Place, needs_cluster

pytestmark = needs_cluster

OIP_BODY = json.dumps({"inputs": [{"name": "x", "shape": [3], "datatype": "FP32", "data": [1.0, 2.0, 5.0]}]}).encode()


@pytest.fixture
def m(here: Place) -> Service:
    """Versions 1 and 2, of which 2 has the traffic, and a label for 1."""
    here.upload("m", 1)
    here.deploy("m", here.upload("m", 2), "--policy=latest:2", "--label=Stable_one=1")
    return here.service("m")


def oip_version(answer: bytes) -> str:
    found = json.loads(answer)
    assert found["outputs"][0]["data"] == ANSWER
    version: str = found["model_version"]
    return version


def test_rest_grpc_and_the_open_inference_protocol_answer_on_one_url(m: Service, here: Place):
    assert m.predict().json == {"predictions": ANSWER}
    answer = m.grpc_predict()
    assert list(answer.outputs["y"].float_val) == ANSWER
    assert answer.model_spec.version.value == 2
    assert oip_version(m.ask("POST", "/v2/models/m/infer", OIP_BODY).body) == "2"
    with m.channel() as channel:
        request = oip.ModelInferRequest(model_name="m")
        tensor = request.inputs.add(name="x", datatype="FP32", shape=[3])
        tensor.contents.fp32_contents.extend([1.0, 2.0, 5.0])
        inferred = oip_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=60)
        assert inferred.model_version == "2"

    # Versions and labels, on the one URL, whichever revision gets the request.
    assert m.predict("/versions/1").version == 1
    assert m.predict("/versions/2").version == 2
    assert m.predict("/labels/Stable_one").version == 1
    assert m.predict("/versions/1").json == {"predictions": ANSWER}
    assert m.grpc_predict(version=1).model_spec.version.value == 1
    assert m.grpc_predict(label="Stable_one").model_spec.version.value == 1
    assert oip_version(m.ask("POST", "/v2/models/m/versions/1/infer", OIP_BODY).body) == "1"
    assert m.predict("/versions/3").status == 404
    with pytest.raises(grpc.RpcError) as refused:
        m.grpc_predict(label="nobody")
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    # Each version and label has an address of its own too, which the service says.
    rows = {row["version"]: row for row in here.status("m")["revisions"]}
    assert set(rows[1]["tags"]) == {"v1", "stable-one"}
    for tag, version in (("v1", 1), ("stable-one", 1), ("v2", 2)):
        assert here.service("m", tag).predict().version == version

"""The printed commands say what a plan does."""

from knative.kn import kn_commands, kn_traffic
from knative.rollout import AwaitReady, CreateRevision, DeleteRevision, SetTraffic
from knative.traffic import WHOLE, TrafficTarget, block

ONE, TWO = "m-v1-00000000", "m-v2-00000000"


def test_tags_that_move_are_taken_away_first():
    before = block({ONE: WHOLE}, {"v1": ONE, "stable": ONE})
    after = block({TWO: WHOLE}, {"v2": TWO, "stable": TWO})
    assert kn_traffic("m", "prod", before, after) == (
        "kn service update m -n prod --untag stable --untag v1"
        f" --tag {TWO}=stable --tag {TWO}=v2 --traffic {TWO}={WHOLE}"
    )


def test_the_latest_revision_has_a_word_of_its_own():
    assert kn_traffic("m", "prod", (), (TrafficTarget("", WHOLE, "next"),)).endswith(
        "--tag @latest=next --traffic @latest=100"
    )


def test_each_step_is_one_command():
    created, final = block({ONE: WHOLE}, {}), block({ONE: WHOLE}, {"v1": ONE})
    steps = [CreateRevision(ONE, 1, created), AwaitReady(ONE), SetTraffic(final), DeleteRevision(TWO)]
    assert kn_commands("m", "prod", (), steps) == [
        f"kubectl apply --server-side -f v1.yaml  # {ONE}",
        f"kubectl wait --for=condition=Ready --timeout=600s -n prod revision/{ONE}",
        f"kn service update m -n prod --tag {ONE}=v1 --traffic {ONE}={WHOLE}",
        f"kn revision delete {TWO} -n prod",
    ]

"""The deploy function, put together from what its environment says."""

from pathlib import Path

import pytest

from events.envelope import envelopes
from functions.deployer.function import deploy_function
from functions.deployer.settings import DeployerSettings
from functions.event_sink import sink_extensions
from knative.error import DeployError
from tests.functions.test_deployer import KUBECONFIG
from tests.servers.process import free_port
from tests.servers.sink import sink_server


def settings(folder: Path) -> DeployerSettings:
    (folder / "kubeconfig").write_text(KUBECONFIG.replace("PORT", str(free_port())))
    return DeployerSettings(kubeconfig=str(folder / "kubeconfig"), anonymous_events=True)


def test_what_a_sink_binding_asks_of_events_holds_for_those_of_rollouts(tmp_path, monkeypatch):
    with sink_server() as sink:
        monkeypatch.setenv("K_SINK", sink.url)
        monkeypatch.setenv("K_CE_OVERRIDES", '{"extensions": {"team": "a", "type": "lie"}}')
        function = deploy_function(settings(tmp_path))
        with pytest.raises(DeployError):  # nothing answers there; so a function that ends now hands over
            function.door._follower.looks.ask("m").result(30)
        function.close()
        received = sink.next()
    (event,) = envelopes(received.headers, received.body)
    assert (event.type, event.attributes["team"]) == ("com.zeroserve.sweep.v1", "a")


@pytest.mark.parametrize(
    "text", ["[", "3", '{"extensions": 3}', '{"extensions": {"Team": "a"}}', '{"extensions": {"a b": "c"}}']
)
def test_overrides_that_make_no_sense_are_refused_at_the_start(text):
    with pytest.raises(ValueError, match="K_CE_OVERRIDES"):
        sink_extensions({"K_CE_OVERRIDES": text})


def test_without_overrides_nothing_is_added():
    assert sink_extensions({}) == {}
    assert sink_extensions({"K_CE_OVERRIDES": '{"extensions": null}'}) == {}

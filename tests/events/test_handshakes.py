"""Event Grid's and SNS's questions are answered, and strangers cannot make us echo or open what they like."""

import json

import pytest

from events import azure, sns
from events.error import MalformedError
from tests.events.deliveries import delivery

TOPIC = "arn:aws:sns:eu-west-1:123456789012:models"
URL = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=x&Token=abc"


def confirmation(**more):
    return {"Type": "SubscriptionConfirmation", "TopicArn": TOPIC, "SubscribeURL": URL} | more


def test_the_confirmation_of_a_topic_that_we_take_is_amazons_own_address():
    assert sns.confirmation_url(confirmation(), {TOPIC}) == URL
    assert sns.is_sns(json.loads(delivery("moto_sns_http_TestEvent")[1]))


@pytest.mark.parametrize(
    "more",
    [
        {"TopicArn": "arn:aws:sns:eu-west-1:1:other"},
        {"TopicArn": None},
        {"SubscribeURL": "http://sns.eu-west-1.amazonaws.com/"},
        {"SubscribeURL": "https://sns.eu-west-1.amazonaws.com:8443/"},
        {"SubscribeURL": "https://sns.eu-west-1.amazonaws.com.evil.example/"},
        {"SubscribeURL": "https://user@sns.eu-west-1.amazonaws.com/"},
        {"SubscribeURL": "https://evil.example/sns.eu-west-1.amazonaws.com"},
        {"SubscribeURL": "https://169.254.169.254/latest/meta-data"},
        {"SubscribeURL": "file:///etc/passwd"},
        {"SubscribeURL": "https://sns.eu-west-1.amazonaws.com/\r\nHost: evil"},
        {"SubscribeURL": "https://[/"},
        {"SubscribeURL": 3},
    ],
)
def test_any_other_confirmation_is_refused(more):
    with pytest.raises(MalformedError):
        sns.confirmation_url(confirmation(**more), {TOPIC})


def validation(code):
    return [{"eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": {"validationCode": code}}]


def test_event_grid_gets_its_code_back():
    assert azure.validation_code(validation("512d38b6-c7b8-40c8-89fe-f46f9e9622b6")) is not None
    assert azure.validation_code([{"eventType": "Microsoft.Storage.BlobCreated"}]) is None
    assert azure.validation_code({"hello": 1}) is None
    assert azure.validation_code([]) is None


@pytest.mark.parametrize("code", ["", None, 7, "<script>", "x" * 200, "a b"])
def test_what_is_no_code_is_not_echoed(code):
    with pytest.raises(MalformedError):
        azure.validation_code(validation(code))


def test_an_origin_is_allowed_by_its_name_and_nothing_else_is_sent_back():
    assert azure.allowed_origin({"webhook-request-origin": "eventgrid.azure.net"}) == "eventgrid.azure.net"
    for odd in ("", "a b", "x\r\ny", "*"):
        with pytest.raises(MalformedError):
            azure.allowed_origin({"webhook-request-origin": odd})

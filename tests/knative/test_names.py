"""Names are valid DNS labels, deterministic, and tell revisions apart."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knative.error import DeployError
from knative.names import (
    MAX_LABEL,
    MAX_SERVICE,
    checked_service,
    digest,
    label_tag,
    label_tags,
    revision_name,
    version_of,
    version_tag,
)

SERVICES = st.from_regex(rf"[a-z]([-a-z0-9]{{0,{MAX_SERVICE - 2}}}[a-z0-9])?", fullmatch=True)
VERSIONS = st.integers(0, 2**63 - 1)
CONTENTS = st.dictionaries(st.text(), st.integers() | st.text())
DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


@given(SERVICES, VERSIONS, CONTENTS)
def test_a_revision_has_a_dns_name_that_begins_with_its_service_and_says_its_version(service, version, content):
    name = revision_name(service, version, content)
    assert DNS_1035.fullmatch(name)
    assert len(name) <= MAX_LABEL
    assert name.startswith(f"{service}-")
    assert version_of(service, name) == version


@given(SERVICES, VERSIONS, CONTENTS)
def test_the_same_content_gives_the_same_name_in_whatever_order_its_keys_are(service, version, content):
    turned = dict(reversed(content.items()))
    assert revision_name(service, version, content) == revision_name(service, version, turned)


@given(CONTENTS, CONTENTS)
def test_other_content_gives_another_digest(one, other):
    assert (digest(one) == digest(other)) == (one == other)


@pytest.mark.parametrize("name", ["", "Model", "1m", "m-", "m_1", "a.b", "m" * (MAX_SERVICE + 1)])
def test_a_name_that_no_service_can_have_is_refused(name):
    with pytest.raises(DeployError, match="cannot name a service"):
        checked_service(name)


@pytest.mark.parametrize("name", ["m-00001", "other-v1-12345678", "m-v1", "m-v1-1234567g", "mv1-12345678", ""])
def test_a_revision_that_somebody_else_named_has_no_version(name):
    assert version_of("m", name) is None


@given(st.from_regex(r"[A-Za-z0-9_]{1,30}", fullmatch=True), SERVICES)
def test_a_label_becomes_a_tag_or_is_refused_and_is_never_the_tag_of_a_version(label, service):
    try:
        tag = label_tag(label, service)
    except DeployError:
        return
    assert DNS_1035.fullmatch(tag)
    assert len(f"{tag}-{service}") <= MAX_LABEL
    assert not re.fullmatch(r"v\d+", tag)


def test_labels_that_differ_only_where_tags_cannot_are_refused():
    with pytest.raises(DeployError, match="same tag 'a-b'"):
        label_tags(["a_b", "A_B"], "m")


@pytest.mark.parametrize("label", ["v3", "V3", "_", "1st", "a-b", ""])
def test_a_label_that_cannot_be_a_tag_is_refused(label):
    with pytest.raises(DeployError, match="label"):
        label_tag(label, "m")


def test_a_version_is_addressed_by_v_and_its_number():
    assert version_tag(7) == "v7"

"""Every recorded delivery says which object came or went; one that says nothing of storage says nothing."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.decode import of_cloud_event, of_request
from events.envelope import Envelope
from events.error import MalformedError
from events.object_event import ObjectCreated, ObjectRemoved
from events.place import Place
from tests.events.deliveries import bodies, content, delivery

RECORDED = {
    "minio_ObjectCreated_Put": ObjectCreated(
        Place("s3", "bucket1", "models/m/model/1/assets/vocab_08.txt"),
        20000,
        "9c0bc7900823d81ece13c9fa693acd5c",
        "18EA4C8A1A569025",
    ),
    "minio_ObjectCreated_CompleteMultipartUpload": ObjectCreated(
        Place("s3", "bucket1", "models/m/model/1/variables/variables.data-00000-of-00001"),
        209715200,
        "04a39dd9cf85248abe535ce9d61bbd97-4",
        "18EA4C8AB446C819",
    ),
    "minio_ObjectCreated_Copy": ObjectCreated(
        Place("s3", "bucket1", "models/copied"), 3, "900150983cd24fb0d6963f7d28e17f72", "18EA4C8BAFE72B6C"
    ),
    "minio_ObjectRemoved_Delete": ObjectRemoved(Place("s3", "bucket1", "models/copied"), "18EA4C8BB1136AC6"),
    "minio_key_encoding": ObjectCreated(
        Place("s3", "bucket1", "models/m/model/1/assets/vocab_00 é+%.txt"),
        20000,
        "96c27df79183c35e27d0dc706454b3b6",
        "18EA4C8A19F23318",
    ),
    "moto_sns_http_ObjectCreated_Put": ObjectCreated(
        Place("s3", "bkt-s", "models/a é+b/1/saved_model.pb"), 10, "336311a016184326ddbdd61edd4eeb52"
    ),
    "gcs_pubsub_push_OBJECT_FINALIZE": ObjectCreated(
        Place("gs", "bucket3", "models/m/model/1/assets.extra/empty.txt"),
        0,
        "1B2M2Y8AsgTpgAmY7PhCfg==",
        "1795332386404712",
    ),
    "gcs_wheel154_push_via_python_grpc": ObjectCreated(
        Place("gs", "bucket1", "models/w/1/saved_model.pb"), 100, "rtVj7K+0vMVlTFl6QhVHsg==", "1795334418813392"
    ),
    "gcs_pubsub_push_OBJECT_DELETE": ObjectRemoved(
        Place("gs", "bucket3", "models/new/2/saved_model.pb"), "1795332395818957"
    ),
    "hdfs_inotify_CLOSE": ObjectCreated(Place("hdfs", "", "models/m/tmp/model/1/assets.extra/empty.txt"), 0, "", "10"),
    "hdfs_inotify_UNLINK": ObjectRemoved(Place("hdfs", "", "models/m/tmp"), "524", tree=True),
    "seaweedfs_webhook_delete": ObjectRemoved(Place("s3", "bucket1", "models/copied")),
}


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_delivery_names_its_object(name):
    assert of_request(*delivery(name)) == (RECORDED[name],)


@pytest.mark.parametrize(
    "name", ["moto_sns_http_TestEvent", "hdfs_inotify_APPEND", "hdfs_inotify_CREATE", "seaweedfs_webhook_create"]
)
def test_a_recorded_delivery_about_no_finished_object_says_nothing(name):
    assert of_request(*delivery(name)) == ()


def test_a_rename_in_hdfs_is_a_folder_that_went_and_one_that_came():
    assert of_request(*delivery("hdfs_inotify_RENAME")) == (
        ObjectRemoved(Place("hdfs", "", "models/m/tmp/model/1"), "523", tree=True),
        ObjectCreated(Place("hdfs", "", "models/m/1"), None, "", "523", tree=True),
    )


def test_the_messages_of_a_queue_name_their_objects_and_the_test_event_none():
    found = [of_request({}, json.dumps(message["Body"]).encode()) for message in content("moto_sqs")]
    key = "models/a é+b/1/saved_model.pb"
    assert found == [
        (),
        (ObjectCreated(Place("s3", "bkt-m", key), 10, "336311a016184326ddbdd61edd4eeb52"),),
        (ObjectRemoved(Place("s3", "bkt-m", key)),),
        (ObjectCreated(Place("s3", "bkt-m", "models/mp"), 6000000, "cfef0369d83c0cd49304cc41e730042c-1"),),
        (ObjectCreated(Place("s3", "bkt-m", "models/mp"), 6000000, "cfef0369d83c0cd49304cc41e730042c-1"),),
    ]


def test_event_bridge_does_not_encode_keys_and_tags_are_no_objects():
    found = [of_request({}, json.dumps(message["Body"]).encode()) for message in content("moto_eventbridge_sqs")]
    place = Place("s3", "bkt-e", "models/a é+b/1/saved_model.pb")
    assert found == [(ObjectCreated(place, 10, "336311a016184326ddbdd61edd4eeb52", "617f08299329d189"),), ()]


def queue_record(body):
    return {"Records": [{"eventSource": "aws:sqs", "body": json.dumps(body)}]}


def test_a_notification_in_a_topic_in_a_queue_is_found_and_one_packed_deeper_is_refused():
    _, sns = delivery("moto_sns_http_ObjectCreated_Put")
    packed = queue_record(json.loads(sns))
    (event,) = of_request({}, json.dumps(packed).encode())
    assert event.place.key == "models/a é+b/1/saved_model.pb"
    with pytest.raises(MalformedError, match="packed more than"):
        of_request({}, json.dumps(queue_record(queue_record(packed))).encode())


RESOURCE = content("gcs_pubsub_push_OBJECT_FINALIZE_data_decoded")
BLOB = "/blobServices/default/containers/c/blobs/models/resnet/42/saved_model.pb"
ACCOUNT = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/acct"
GCS_PLACE = Place("gs", "bucket3", "models/m/model/1/assets.extra/empty.txt")
S3_RECORD = json.loads(delivery("minio_ObjectCreated_Put")[1])["Records"][0]
S3_PLACE = Place("s3", "bucket1", "models/m/model/1/assets/vocab_08.txt")
AZURE_PLACE = Place("az", "c@acct", "models/resnet/42/saved_model.pb")


def event(event_type, data, source="//s", subject=""):
    return Envelope({"specversion": "1.0", "id": "1", "type": event_type, "source": source, "subject": subject}, data)


@pytest.mark.parametrize(
    ("cloud_event", "places"),
    [
        (event("google.cloud.storage.object.v1.finalized", RESOURCE), [GCS_PLACE]),
        (event("google.cloud.storage.object.v1.finalized", RESOURCE | {"generation": 7, "size": 3}), [GCS_PLACE]),
        (event("google.cloud.storage.object.v1.finalized", json.dumps(RESOURCE)), [GCS_PLACE]),
        (event("google.cloud.storage.object.v1.deleted", RESOURCE), [GCS_PLACE]),
        (event("google.cloud.storage.object.v1.metadataUpdated", {}), []),
        (
            event(
                "google.cloud.pubsub.topic.v1.messagePublished",
                json.loads(delivery("gcs_pubsub_push_OBJECT_FINALIZE")[1]),
            ),
            [GCS_PLACE],
        ),
        (event("com.amazonaws.s3.ObjectCreated:Put", S3_RECORD), [S3_PLACE]),
        (
            event("com.amazonaws.s3.ObjectCreated:Put", None, "aws:s3.us-east-1.my.bucket", "models/m/1/a b"),
            [Place("s3", "my.bucket", "models/m/1/a b")],
        ),
        (event("com.amazonaws.s3.ObjectTagging:Put", None, "aws:s3.us-east-1.b", "k"), []),
        (event("dev.knative.eventing.aws-sqs", json.dumps({"Records": [S3_RECORD]})), [S3_PLACE]),
        (event("dev.knative.eventing.aws-sqs", {"Records": [S3_RECORD]}), [S3_PLACE]),
        (
            event("Microsoft.Storage.BlobCreated", {"api": "PutBlockList", "contentLength": 5}, ACCOUNT, BLOB),
            [AZURE_PLACE],
        ),
        (event("Microsoft.Storage.BlobCreated", {"api": "CreateFile", "contentLength": 0}, ACCOUNT, BLOB), []),
        (
            event("Microsoft.Storage.BlobCreated", {"api": "FlushWithClose", "contentLength": 9}, ACCOUNT, BLOB),
            [AZURE_PLACE],
        ),
        (event("Microsoft.Storage.BlobDeleted", {"api": "DeleteBlob"}, ACCOUNT, BLOB), [AZURE_PLACE]),
        (
            event(
                "Microsoft.Storage.DirectoryRenamed",
                {"sourceUrl": "https://acct.dfs.core.windows.net/c/tmp/a%20b"},
                ACCOUNT,
                BLOB.removesuffix("/saved_model.pb"),
            ),
            [Place("az", "c@acct", "tmp/a b"), Place("az", "c@acct", "models/resnet/42")],
        ),
        (event("Microsoft.Storage.BlobTierChanged", {}, ACCOUNT, BLOB), []),
        (
            event("com.zeroserve.storage.object.created.v1", {"url": "hdfs://namenode:8020/models/m/7"}),
            [Place("hdfs", "namenode", "models/m/7")],
        ),
        (
            event("com.zeroserve.storage.object.removed.v1", {"url": "/models/m/7/saved_model.pb"}),
            [Place("file", "", "models/m/7/saved_model.pb")],
        ),
        (event("a.type.of.somebody", {"Records": [S3_RECORD]}), [S3_PLACE]),
        (event("a.type.of.somebody", {"hello": "world"}), []),
        (event("a.type.of.somebody", None), []),
        (event("a.type.of.somebody", b"\x00"), []),
    ],
)
def test_a_cloud_event_names_its_objects(cloud_event, places):
    assert [one.place for one in of_cloud_event(cloud_event)] == places


def test_a_delivery_of_event_grid_in_its_own_schema_names_its_blobs():
    entry = {
        "eventType": "Microsoft.Storage.BlobCreated",
        "topic": ACCOUNT,
        "subject": BLOB,
        "data": {"api": "PutBlob"},
    }
    other = {"eventType": "Microsoft.Resources.ResourceWriteSuccess", "data": {}}
    assert [one.place for one in of_request({}, json.dumps([entry, other]).encode())] == [AZURE_PLACE]


def test_a_push_without_envelope_says_in_a_header_what_happened():
    body = json.dumps(RESOURCE).encode()
    assert isinstance(of_request({}, body)[0], ObjectCreated)
    assert isinstance(of_request({"eventtype": "OBJECT_FINALIZE"}, body)[0], ObjectCreated)
    assert isinstance(of_request({"eventtype": "OBJECT_DELETE"}, body)[0], ObjectRemoved)
    assert of_request({"eventtype": "OBJECT_METADATA_UPDATE"}, body) == ()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b"1",
        b"null",
        b'"text"',
        b"{}",
        b"[1]",
        b'{"hello": "world"}',
        b'{"Records": 1}',
        b'{"Records": [1]}',
        b'{"Records": [{"eventName": "ObjectCreated:Put"}]}',
        b'{"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": 1}}}]}',
        b'{"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": "%ff"}}}]}',
        b'{"Records": [%s]}' % b",".join([b"{}"] * 1001),
        b'{"message": {"data": "%%%"}, "subscription": "s"}',
        b'{"message": {"data": "eyJ9"}, "subscription": "s"}',
        b'{"kind": "storage#object", "bucket": "b"}',
        b'{"kind": "storage#object", "bucket": "b", "name": "%s"}' % (b"n" * 5000),
        b'{"eventType": "CLOSE"}',
        b'[{"eventType": "Microsoft.Storage.BlobCreated", "subject": "/elsewhere"}]',
    ],
)
def test_what_is_no_storage_event_is_refused_in_one_line(body):
    with pytest.raises(MalformedError) as refused:
        of_request({}, body)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 600


def test_the_source_that_deletes_models_is_refused_with_the_remedy():
    with pytest.raises(MalformedError, match=r"aws\.sqs"):
        of_cloud_event(event("dev.knative.eventing.aws-s3", b"the whole object"))


@given(st.text(min_size=1, max_size=200), st.sampled_from(["minio", "aws", "bridge", "gcs", "grid"]))
def test_an_object_has_the_name_that_its_store_meant_decoded_once(name, store):
    from urllib.parse import quote, quote_plus  # noqa: PLC0415

    try:
        name.encode()
    except UnicodeEncodeError:
        return
    record = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}}}
    match store:
        case "minio":
            record["s3"]["object"] = {"key": quote_plus(name)}
            body = {"Records": [record]}
        case "aws":
            record["s3"]["object"] = {"key": quote(name, safe="/ ").replace(" ", "+")}
            body = {"Records": [record]}
        case "bridge":
            detail = {"bucket": {"name": "b"}, "object": {"key": name}}
            body = {"source": "aws.s3", "detail-type": "Object Created", "detail": detail}
        case "gcs":
            body = {"kind": "storage#object", "bucket": "b", "name": name}
        case _:
            subject = f"/blobServices/default/containers/b/blobs/{name}"
            body = [{"eventType": "Microsoft.Storage.BlobCreated", "subject": subject}]
    (found,) = of_request({}, json.dumps(body).encode())
    assert (found.place.bucket, found.place.key) == ("b", name)


@given(st.sampled_from(bodies()), st.data())
def test_a_delivery_with_a_value_of_another_kind_is_read_or_refused(body, data):
    value = json.loads(body)
    at = value
    while isinstance(at, dict | list) and at:
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        if not isinstance(at[key], dict | list) or data.draw(st.booleans()):
            at[key] = data.draw(
                st.none()
                | st.booleans()
                | st.integers()
                | st.floats()
                | st.text()
                | st.just([])
                | st.just({})
                | st.just([{}])
            )
            break
        at = at[key]
    with contextlib.suppress(MalformedError):
        of_request({}, json.dumps(value).encode())

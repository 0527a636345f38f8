"""What a store needs of Pub/Sub: the call that publishes, and delivery by push, again until it is taken."""

import base64
import contextlib
import itertools
import json
import queue
import threading
import urllib.request
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PAUSES = (0.0, 0.2, 1.0, 5.0, 10.0)
"""Before each try of a delivery."""

SUBSCRIPTION = "projects/test/subscriptions/zeroserve"


@dataclass
class PubSub:
    """Where stores publish, and where it is pushed to once that is known."""

    address: str
    push: str = ""
    waiting: "queue.Queue[bytes | None]" = field(default_factory=queue.Queue)


@contextlib.contextmanager
def pubsub_server() -> Iterator[PubSub]:
    """On any free port; every message of every topic goes to the one subscription."""
    request, response = _messages()
    numbers = itertools.count(1)
    found = PubSub("")

    def publish(asked: Any, _: grpc.ServicerContext) -> Any:
        ids = [str(next(numbers)) for _ in asked.messages]
        for number, message in zip(ids, asked.messages, strict=True):
            content = {
                "data": base64.b64encode(message.data).decode(),
                "attributes": dict(message.attributes),
                "messageId": number,
            }
            found.waiting.put(json.dumps({"message": content, "subscription": SUBSCRIPTION}).encode())
        return response(message_ids=ids)

    handler = grpc.unary_unary_rpc_method_handler(
        publish, request_deserializer=request.FromString, response_serializer=response.SerializeToString
    )
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", {"Publish": handler}),)
    )
    found.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    end = threading.Event()
    pump = threading.Thread(target=_pump, args=(found, end), daemon=True)
    pump.start()
    try:
        yield found
    finally:
        end.set()
        found.waiting.put(None)
        pump.join()
        server.stop(None).wait()


def _pump(found: PubSub, end: threading.Event) -> None:
    while (body := found.waiting.get()) is not None:
        for pause in PAUSES:
            if end.wait(pause):
                return
            request = urllib.request.Request(found.push, body, {"Content-Type": "application/json"}, method="POST")
            with contextlib.suppress(OSError, ValueError), urllib.request.urlopen(request, timeout=30):
                break


def _messages() -> tuple[Any, Any]:
    """PublishRequest and PublishResponse.

    Source: googleapis google/pubsub/v1/pubsub.proto.
    """
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="tests/pubsub.proto", package="google.pubsub.v1", syntax="proto3")
    one = file.message_type.add(name="PubsubMessage")
    one.field.add(name="data", number=1, type=kinds.TYPE_BYTES, label=kinds.LABEL_OPTIONAL)
    one.field.add(
        name="attributes",
        number=2,
        type=kinds.TYPE_MESSAGE,
        type_name=".google.pubsub.v1.PubsubMessage.AttributesEntry",
        label=kinds.LABEL_REPEATED,
    )
    entry = one.nested_type.add(name="AttributesEntry")
    entry.options.map_entry = True
    for number, name in enumerate(("key", "value"), 1):
        entry.field.add(name=name, number=number, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    asked = file.message_type.add(name="PublishRequest")
    asked.field.add(name="topic", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    asked.field.add(
        name="messages",
        number=2,
        type=kinds.TYPE_MESSAGE,
        type_name=".google.pubsub.v1.PubsubMessage",
        label=kinds.LABEL_REPEATED,
    )
    answered = file.message_type.add(name="PublishResponse")
    answered.field.add(name="message_ids", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_REPEATED)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    made = [pool.FindMessageTypeByName(f"google.pubsub.v1.{name}") for name in ("PublishRequest", "PublishResponse")]
    request, response = map(message_factory.GetMessageClass, made)
    return request, response

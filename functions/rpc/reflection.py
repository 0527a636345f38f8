"""gRPC server reflection: `grpcurl` and its like work without the .proto files.

Source: https://github.com/grpc/grpc/blob/master/doc/server-reflection.md. Version 1 has the same messages as v1alpha,
which is all that grpcio generates; newer tools ask for version 1 first.
"""

from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

V1 = "grpc.reflection.v1.ServerReflection"


def add_reflection(server: Any, services: tuple[str, ...]) -> None:
    """Makes a server tell what it serves.

    Args:
        server: a `grpc.aio` server, or ours.
        services: full names of the services, without reflection's own.
    """
    servicer = reflection.aio.ReflectionServicer((*services, reflection.SERVICE_NAME, V1))
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(V1, {"ServerReflectionInfo": handler}),))

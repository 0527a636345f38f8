"""`tensorflow.serving.ModelService`: the state of models, and which models there are.

Source: tensorflow_serving/model_servers/model_service_impl.cc, get_model_status_impl.cc, server_core.cc; rows A3.6 to
A3.9, A4.14, A4.15 and A6.4 of the project's reference.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import loader.protos as _protos  # before the messages: see there
from functions.observing.metrics import Metrics
from functions.rpc.prediction import model_spec
from functions.rpc.status import abort
from loader.manager import ServableManager
from loader.model_config import model_configs
from loader.servable import ModelSpec, VersionStatus
from loader.source import StorageSource
from loader.status import Code, ServingError

assert _protos  # noqa: S101
from tensorflow_serving.apis import (  # noqa: E402
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
)


class ModelServicer(model_service_pb2_grpc.ModelServiceServicer):  # type: ignore[misc]  # generated code has no types
    """Answers questions about models and changes which ones are served. One event loop owns it.

    Args:
        manager: the models.
        source: what is wanted of them.
        metrics: whose growth a reload tells, where it is asked to.
        elsewhere: takes a reload in our place; None where we reload ourselves.
    """

    def __init__(
        self,
        manager: ServableManager,
        source: StorageSource,
        metrics: Metrics,
        elsewhere: Callable[[Any], None] | None = None,
    ) -> None:
        self._manager = manager
        self._source = source
        self._metrics = metrics
        self._elsewhere = elsewhere

    async def GetModelStatus(self, request: Any, context: Any) -> Any:  # noqa: N802  names are the service's
        """The states of a model's versions, highest first, or of the one that is asked for."""
        try:
            statuses = self._statuses(model_spec(request))
        except ServingError as error:
            await abort(context, error)
        response = get_model_status_pb2.GetModelStatusResponse()
        for status in statuses:
            entry = response.model_version_status.add(version=status.version, state=int(status.state))
            entry.status.SetInParent()
            if status.error is not None:
                entry.status.error_code = int(status.error.code)
                entry.status.error_message = status.error.message
        return response

    async def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Serves exactly the models of the request; returns when those that are new answer.

        In a pod that serves one revision, `--reload_sink` takes the request instead.

        Whoever stops waiting does not stop the change.
        """
        try:
            if request.config.WhichOneof("config") != "model_config_list":
                raise ServingError(
                    Code.INVALID_ARGUMENT,
                    "ServerModelConfig type not supported by HandleReloadConfigRequest."
                    " Only ModelConfigList is currently supported",
                )
            before = {name: self._metrics.total(name) for name in request.metric_names}
            await asyncio.to_thread(self._elsewhere or self._reload, request)
        except ServingError as error:
            await abort(context, error)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        for name, value in before.items():
            response.metric.add(name=name, int64_value_increase=self._metrics.total(name) - value)
        return response

    def _statuses(self, spec: ModelSpec) -> list[VersionStatus]:
        if not spec.name:
            raise ServingError(Code.INVALID_ARGUMENT, "ModelSpec has no name specified.")
        if spec.label is not None:
            return [self._manager.status(spec.name, self._manager.label_version(spec.name, spec.label))]
        if spec.version is not None:
            return [self._manager.status(spec.name, spec.version)]
        return self._manager.statuses(spec.name)

    def _reload(self, request: Any) -> None:
        new = self._source.reload(model_configs(request.config))
        if new:
            self._manager.wait_until_available(new)

# Two images of one source: `--target predict` answers predictions, `--target deploy` puts them on a cluster.
# Both run as nobody with a root file system that is never written to; docs/deploy.md says what each part weighs.
ARG PYTHON=python:3.11-slim

FROM ${PYTHON} AS build
# UV_SYSTEM_CERTS: trust whom the base image trusts. Bytecode is compiled here: the root file system is read-only later.
ENV UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never \
    UV_PROJECT_ENVIRONMENT=/opt/zeroserve
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /src
COPY pyproject.toml uv.lock ./

FROM build AS predict-build
# TensorFlow's Python runtime is never executed (docs/adr/0001), so what only it needs is left out: its own packages
# here, its Python source and C++ headers below. What stays are the libraries and the protocol messages.
RUN uv sync --locked --no-dev --no-install-project \
      --no-install-package keras --no-install-package h5py --no-install-package libclang --no-install-package rich \
      --no-install-package optree --no-install-package namex --no-install-package astunparse --no-install-package gast \
      --no-install-package google-pasta --no-install-package opt-einsum --no-install-package flatbuffers \
      --no-install-package wheel --no-install-package termcolor --no-install-package pygments \
    && cd /opt/zeroserve/lib/python3*/site-packages/tensorflow \
    && rm -rf include python compiler lite _api dtensor tools xla_aot_runtime_src

FROM build AS deploy-build
RUN uv sync --locked --no-dev --no-install-project \
      --no-install-package tensorflow --no-install-package tensorflow-serving-api --no-install-package keras \
      --no-install-package h5py --no-install-package libclang --no-install-package numpy --no-install-package ml-dtypes \
      --no-install-package optree --no-install-package rich --no-install-package pillow --no-install-package uvicorn \
      --no-install-package functions-framework --no-install-package pysimdjson --no-install-package uvloop \
      --no-install-package grpcio --no-install-package grpcio-health-checking --no-install-package grpcio-reflection

# The code is a layer of its own: a change of it is some hundred kilobytes to push and to pull.
FROM build AS code
COPY . .
RUN uv venv /opt/zeroserve && uv pip install --python /opt/zeroserve --no-deps --target /opt/code .

FROM ${PYTHON} AS deploy
COPY --from=deploy-build /opt/zeroserve /opt/zeroserve
COPY --from=code /opt/code /opt/code
ENV PATH=/opt/code/bin:/opt/zeroserve/bin:$PATH PYTHONPATH=/opt/code PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
USER 65532:65532
ENTRYPOINT ["zeroserve"]
CMD ["--help"]

FROM ${PYTHON} AS predict
COPY --from=predict-build /opt/zeroserve /opt/zeroserve
COPY --from=code /opt/code /opt/code
ENV PATH=/opt/code/bin:/opt/zeroserve/bin:$PATH PYTHONPATH=/opt/code PYTHONDONTWRITEBYTECODE=1 HOME=/tmp PORT=8080
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["zeroserve"]
CMD ["serve"]

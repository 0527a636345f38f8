# Two images of one source: `--target predict` answers predictions, `--target deploy` puts them on a cluster.
# Both run as nobody with a root file system that is never written to. What each part weighs: docs/deploy.md.
#
#   docker build --target predict -t REGISTRY/zeroserve:TAG .
#   docker build --target predict --build-arg TENSORFLOW=gpu -t REGISTRY/zeroserve-gpu:TAG .
#   docker build --target deploy -t REGISTRY/zeroserve-deploy:TAG .
ARG PYTHON=python:3.11-slim

FROM ${PYTHON} AS build
# The system's certificates: trust whom the base image trusts. Bytecode is compiled here: nothing is written later.
ENV UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /src
COPY pyproject.toml uv.lock ./

FROM build AS predict-build
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends binutils >/dev/null
# cpu: the library without CUDA's kernels. gpu: with them, and with NVIDIA's libraries; the driver comes from the node.
ARG TENSORFLOW=cpu
# More extras of pyproject.toml, such as "--extra parquet" for batch jobs.
ARG EXTRAS=""
# TensorFlow's Python runtime is never executed (docs/adr/0001), so what only it needs is left out: its own packages
# first, then its Python source, C++ headers and the libraries' symbol tables for debuggers. What stays are two
# libraries and the protocol messages. The bill of materials lists what was installed, from the lock file.
RUN case "$TENSORFLOW" in cpu) without="--prune tensorflow" ;; gpu) without="" ;; \
      *) echo "TENSORFLOW=$TENSORFLOW: wanted cpu or gpu" >&2; exit 1 ;; esac \
    && for package in keras h5py libclang rich optree namex astunparse gast google-pasta opt-einsum flatbuffers wheel \
         termcolor setuptools absl-py tensorboard; do without="$without --prune $package"; done \
    && export="uv export --quiet --locked --no-dev --no-emit-project --extra $TENSORFLOW --extra otel $EXTRAS $without" \
    && uv venv --quiet /opt/zeroserve && $export > /tmp/requirements.txt \
    && uv pip sync --quiet --python /opt/zeroserve --require-hashes /tmp/requirements.txt \
    && $export --format cyclonedx1.5 > /opt/zeroserve/sbom.cdx.json \
    && cd /opt/zeroserve/lib/python3*/site-packages/tensorflow \
    && rm -rf include python lite _api dtensor tools xla_aot_runtime_src \
    && find compiler -type f -not -path "compiler/xla/tsl/protobuf/*" -delete \
    && for library in libtensorflow_cc.so.2 libtensorflow_framework.so.2; do \
         strip -o /tmp/stripped $library && cp /tmp/stripped $library; done

FROM build AS deploy-build
RUN without="" \
    && for package in tensorflow tensorflow-serving-api numpy ml-dtypes pillow pysimdjson python-rapidjson \
         grpcio grpcio-health-checking grpcio-reflection grpcio-status; do without="$without --prune $package"; done \
    && export="uv export --quiet --locked --no-dev --no-emit-project $without" \
    && uv venv --quiet /opt/zeroserve && $export > /tmp/requirements.txt \
    && uv pip sync --quiet --python /opt/zeroserve --require-hashes /tmp/requirements.txt \
    && $export --format cyclonedx1.5 > /opt/zeroserve/sbom.cdx.json

# The code is a layer of its own: a change of it is a megabyte to push and to pull.
FROM build AS code
RUN uv venv --quiet /opt/zeroserve
COPY . .
RUN uv pip install --quiet --python /opt/zeroserve --no-deps --target /opt/code .

FROM ${PYTHON} AS deploy
COPY --from=deploy-build /opt/zeroserve /opt/zeroserve
COPY --from=code /opt/code /opt/code
ENV PATH=/opt/code/bin:/opt/zeroserve/bin:$PATH PYTHONPATH=/opt/code PYTHONDONTWRITEBYTECODE=1 HOME=/tmp PORT=8080
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["zeroserve"]
CMD ["deployer"]

FROM ${PYTHON} AS predict
COPY --from=predict-build /opt/zeroserve /opt/zeroserve
COPY --from=code /opt/code /opt/code
ENV PATH=/opt/code/bin:/opt/zeroserve/bin:$PATH PYTHONPATH=/opt/code PYTHONDONTWRITEBYTECODE=1 HOME=/tmp PORT=8080 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["zeroserve"]
CMD ["serve"]

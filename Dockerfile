# Four images, made by the lock files and scripts that CI uses; none runs as root.
#
#   docker build --target train       -t gradus-train:0.1.0 .
#   docker build --target engine-cpu  -t gradus-engine-cpu:0.1.0 .
#   docker build --target engine-cuda -t gradus-engine-cuda:0.1.0 .
#   docker build --target gateway     -t gradus-gateway:0.1.0 .
#
# For CPUs, point pip at PyTorch's CPU builds: --build-arg PIP_EXTRA_INDEX_URL=...
# deploy/ holds what runs them: compose.yaml, and kubernetes/.

FROM python:3.11.14-slim-bookworm AS base
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN useradd --create-home --uid 10001 gradus \
    && install --directory --owner=gradus --group=gradus /app /app/.gradus
WORKDIR /app
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1


# A compiler for the kernels that torch and vLLM build at run time; libnuma for vLLM on CPUs.
FROM base AS tools
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential libnuma1 \
    && rm -rf /var/lib/apt/lists/*
USER 10001:10001


# docker run -v gradus-store:/app/.gradus gradus-train:0.1.0 run recipes/demo/l2.yaml
FROM tools AS train
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
# Before the code, so that a change of code installs nothing again.
COPY --chown=10001:10001 Makefile pyproject.toml ./
COPY --chown=10001:10001 requirements/main.lock requirements/
COPY --chown=10001:10001 scripts/ scripts/
COPY --chown=10001:10001 pipeline/__init__.py pipeline/
COPY --chown=10001:10001 eval/__init__.py eval/
COPY --chown=10001:10001 serve/__init__.py serve/
RUN make setup
COPY pipeline/ pipeline/
COPY eval/ eval/
COPY serve/ serve/
COPY recipes/ recipes/
VOLUME /app/.gradus
ENTRYPOINT [".venv/bin/gradus"]
CMD ["--help"]


# What installs vLLM's own environment, and starts it for a bundle: no torch of its own.
FROM tools AS engine
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ENV GRADUS_ENGINE_HOME=/app/.venv-engine
COPY requirements/ requirements/
COPY scripts/ scripts/
RUN scripts/setup gateway
COPY pipeline/__init__.py pipeline/cli*.py pipeline/
COPY pipeline/core/ pipeline/core/
COPY serve/__init__.py serve/engine_install.py serve/


# docker run -v ./models:/models:ro gradus-engine-cpu:0.1.0 /models/BUNDLE
# vLLM has no key: keep port 8001 where the gateway alone can reach it.
FROM engine AS engine-cpu
RUN .venv-gateway/bin/python -m pipeline.cli engine install --device cpu
COPY serve/ serve/
EXPOSE 8001
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m CMD [".venv-gateway/bin/python", "-c", \
    "import urllib.request as u; u.urlopen('http://127.0.0.1:8001/health', timeout=4)"]
ENTRYPOINT [".venv-gateway/bin/python", "-m", "pipeline.cli", "engine", "start", "--host", "0.0.0.0"]
CMD ["--help"]


# docker run --gpus all -v ./models:/models:ro gradus-engine-cuda:0.1.0 /models/BUNDLE
FROM engine AS engine-cuda
# What the container runtime of NVIDIA reads: which GPUs, and which of the driver's libraries.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN .venv-gateway/bin/python -m pipeline.cli engine install --device cuda
COPY serve/ serve/
EXPOSE 8001
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m CMD [".venv-gateway/bin/python", "-c", \
    "import urllib.request as u; u.urlopen('http://127.0.0.1:8001/health', timeout=4)"]
ENTRYPOINT [".venv-gateway/bin/python", "-m", "pipeline.cli", "engine", "start", "--host", "0.0.0.0"]
CMD ["--help"]


# docker run -p 127.0.0.1:8000:8000 -v ./models:/models:ro -v ./keys:/keys:ro gradus-gateway:0.1.0 \
#     /models/BUNDLE --engine-url http://ENGINE:8001 --keys /keys/keys.json
FROM base AS gateway
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
COPY requirements/gateway.in requirements/main.lock requirements/
COPY scripts/setup scripts/
RUN install --directory --owner=gradus --group=gradus /var/lib/gradus && scripts/setup gateway
COPY pipeline/__init__.py pipeline/cli*.py pipeline/
COPY pipeline/core/ pipeline/core/
COPY serve/ serve/
USER 10001:10001
VOLUME /var/lib/gradus
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m CMD [".venv-gateway/bin/python", "-c", \
    "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT [".venv-gateway/bin/python", "-m", "pipeline.cli", "serve", "--host", "0.0.0.0"]
CMD ["--help"]

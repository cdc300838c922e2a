ARG BASE_IMAGE=docker.io/library/python:3.11-slim

# What changes rarely. Everything comes as wheels, so nothing is ever compiled here.
FROM ${BASE_IMAGE} AS runtime
# Group 0 may do what the user may: OpenShift runs the image as an arbitrary user of group 0.
RUN useradd --uid 1000 --gid 0 --create-home --home-dir /home/ddm ddm \
    && install --directory --owner 1000 --group 0 --mode 775 /app \
    && chmod 775 /home/ddm
# Without a pip of its own: the base image's pip fills the environment from outside.
RUN python3 -m venv --without-pip /opt/venv
COPY requirements-runtime.lock /opt/
# Of the build alone: an ARG is no part of the image's environment.
ARG PIP_DISABLE_PIP_VERSION_CHECK=1
ARG PIP_ROOT_USER_ACTION=ignore
RUN --mount=type=cache,target=/root/.cache/pip \
    grep -v '^torch==' /opt/requirements-runtime.lock \
    | python3 -m pip --python /opt/venv/bin/python3 install --no-deps -r /dev/stdin
# torch alone is resolved: a CUDA build brings its own libraries, which the lock file of the CPU build lacks.
# An empty TORCH_INDEX_URL leaves the choice of index to pip's configuration.
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip --python /opt/venv/bin/python3 install --constraint /opt/requirements-runtime.lock \
        ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} torch \
    && python3 -m pip --python /opt/venv/bin/python3 check

FROM runtime AS project
WORKDIR /build
COPY pyproject.toml README.md ./
COPY ddm_core ddm_core/
COPY components components/
COPY pipelines pipelines/
# In a folder of its own, so that a code change makes a small layer above the dependencies.
RUN python3 -m pip --python /opt/venv/bin/python3 install --no-deps --no-index --no-build-isolation \
        --prefix /opt/project .

FROM runtime
# USER names an arbitrary user id, which no passwd entry does; /tmp is what a read-only root leaves to write.
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/home/ddm \
    USER=ddm \
    MPLCONFIGDIR=/tmp/matplotlib \
    GIT_PYTHON_REFRESH=quiet \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app
COPY --from=project /opt/project /opt/venv
COPY params.yaml ./
ARG VERSION=unknown
ARG COMMIT=unknown
# podman takes ENV and LABEL from its cache when only the value of an ARG has changed; a RUN it repeats.
RUN : "$VERSION $COMMIT"
ENV DDM_COMMIT=$COMMIT
LABEL org.opencontainers.image.title="DDM Pipeline" \
      org.opencontainers.image.description="Trains a learned face-photo obfuscator, attacks it, and lets only models that survive reach production." \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$COMMIT
USER 1000:0
ENTRYPOINT ["ddm"]
CMD ["--help"]

# The webcam loop and the engine builder for a PC or server with an NVIDIA GPU. To use it: docs/desktop.md.
# Build it in the repository's root: docker build --file docs/docker/desktop.Dockerfile --tag iern-desktop .

# CUDA 13 needs driver 580 or newer.
ARG CUDA=13.0.0
FROM nvidia/cuda:${CUDA}-devel-ubuntu24.04 AS build

ARG PYCUDA=2026.1
ARG TENSORRT=10.16.1.11

# The tag fixes the release of Ubuntu. Its servers keep no older packages that could be pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

# pycuda finds CUDA through the nvcc on the path.
ENV PATH=/opt/iern/venv/bin:/usr/local/cuda/bin:${PATH}
RUN python3 -m venv /opt/iern/venv \
    && pip install --no-cache-dir "pycuda==${PYCUDA}" "tensorrt-cu13==${TENSORRT}"

WORKDIR /opt/iern/source
COPY LICENSE README.md pyproject.toml setup.py ./
COPY benchmarks/audit benchmarks/audit
COPY cpp_ext cpp_ext
COPY export export
COPY runtime runtime
COPY train train
# The versions are in pyproject.toml.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir '.[gpu-headless,engine]'

# This stage has no compilers and headers, but the libraries of CUDA and cuDNN that onnxruntime and pycuda load.
FROM nvidia/cuda:${CUDA}-cudnn-runtime-ubuntu24.04

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/*

COPY --from=build /opt/iern/venv /opt/iern/venv
ENV PATH=/opt/iern/venv/bin:${PATH}

# The group `video` may open cameras. USER_ID owns the files in mounted folders.
ARG USER_ID=1000
RUN useradd --create-home --non-unique --uid "${USER_ID}" --groups video iern
# By name, since groups belong to a name, and in Ubuntu's image another user may have the number.
# hadolint ignore=DL3066
USER iern
WORKDIR /models

ENTRYPOINT ["python", "-m"]
CMD ["iern.runtime.doctor"]

# The webcam loop and the engine builder for a Jetson with JetPack 6. To use it: docs/jetson.md.
# Build it on the Jetson, in the repository's root: docker build --file docs/docker/jetson.Dockerfile --tag iern-jetson .

# JetPack 6.1 and 6.2 have L4T 36.4.
ARG L4T=r36.4.0
FROM nvcr.io/nvidia/l4t-jetpack:${L4T}

ARG PYCUDA=2026.1

# The tag fixes the release of Ubuntu and JetPack. Their servers keep no older packages that could be pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential python3-dev python3-libnvinfer python3-venv \
    && rm -rf /var/lib/apt/lists/*

# pycuda finds CUDA through the nvcc on the path. TensorRT comes from the system, everything else from the environment.
ENV PATH=/opt/iern/venv/bin:/usr/local/cuda/bin:${PATH}
RUN python3 -m venv --system-site-packages /opt/iern/venv \
    && pip install --no-cache-dir "pycuda==${PYCUDA}"

WORKDIR /opt/iern/source
COPY LICENSE README.md pyproject.toml setup.py ./
COPY benchmarks/audit benchmarks/audit
COPY cpp_ext cpp_ext
COPY export export
COPY runtime runtime
COPY train train
# The versions are in pyproject.toml.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir '.[cpu-headless,engine]'

# The group `video` may open cameras and the GPU. USER_ID owns the files in mounted folders.
ARG USER_ID=1000
RUN useradd --create-home --non-unique --uid "${USER_ID}" --groups video iern
# By name, since groups belong to a name, and in Ubuntu's image another user may have the number.
# hadolint ignore=DL3066
USER iern
WORKDIR /models

ENTRYPOINT ["python", "-m"]
CMD ["iern.runtime.doctor"]

# Two images from one file. `cpu` predicts and serves the web demo, without PyTorch; `cuda` also trains and evaluates. The
# GPU driver comes from the host; PyTorch's own wheels bring the CUDA libraries.
#
#   docker build --target cpu -t amodalseg .
#   docker run --rm -v $PWD:/work amodalseg predict conddiff_amo_lite --image photo.jpg --mask mask.png --out whole.png
#   docker run --rm -p 7860:7860 amodalseg demo --port 7860
#
#   docker build --target cuda -t amodalseg:cuda .
#   docker run --rm --gpus all --ipc=host -v /my/data:/data -v $PWD:/work amodalseg:cuda train photos_b4
#
# Packages are locked by hash in docker/*.txt (how: CONTRIBUTING.md). BASE is any image with Python 3.11.
ARG BASE=python:3.11-slim

FROM ${BASE} AS base
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
RUN python3 -m venv /opt/amodalseg
ENV PATH=/opt/amodalseg/bin:$PATH

FROM base AS wheel
COPY docker/build.txt /tmp/build.txt
RUN pip install --require-hashes -r /tmp/build.txt
COPY . /src
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels /src

FROM base AS cpu-packages
COPY docker/cpu.txt /tmp/cpu.txt
RUN pip install --require-hashes -r /tmp/cpu.txt
COPY --from=wheel /wheels /wheels
RUN pip install --no-deps /wheels/*.whl && pip check

FROM base AS cuda-packages
COPY docker/cuda.txt /tmp/cuda.txt
RUN pip install --require-hashes -r /tmp/cuda.txt
COPY --from=wheel /wheels /wheels
RUN pip install --no-deps /wheels/*.whl && pip check

FROM ${BASE} AS ready
ENV PYTHONUNBUFFERED=1 PATH=/opt/amodalseg/bin:$PATH AMODALSEG_DATA=/data GRADIO_SERVER_NAME=0.0.0.0
RUN useradd --create-home user && mkdir /work && chown user /work
USER user
WORKDIR /work
EXPOSE 7860
# for the demo; in containers with another command it fails without consequences
HEALTHCHECK --interval=30s --start-period=30s \
    CMD ["python3", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:7860', timeout=5)"]
ENTRYPOINT ["amodalseg"]
CMD ["--help"]

FROM ready AS cuda
COPY --from=cuda-packages /opt/amodalseg /opt/amodalseg

# the last stage is built without --target
FROM ready AS cpu
COPY --from=cpu-packages /opt/amodalseg /opt/amodalseg

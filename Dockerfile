# The GPU driver comes from the host; torch's own wheel brings the CUDA libraries.
#   docker build -t amodalseg .
#   docker run --rm --gpus all --ipc=host -v /my/data:/data -v $PWD/outputs:/app/outputs amodalseg \
#       python train.py configs/experiment/photos_b4.yaml
FROM python:3.11-slim

RUN useradd --create-home user && mkdir /app && chown user /app
WORKDIR /app
ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1 AMODALSEG_DATA=/data PATH=/app/.venv/bin:$PATH

# dependencies first: they change seldom and are large
COPY --chown=user pyproject.toml constraints.txt README.md LICENSE ./
COPY --chown=user amodalseg/__init__.py amodalseg/__init__.py
USER user
RUN python -m venv .venv && mkdir checkpoints configs \
    && pip install -c constraints.txt -e ".[track]"

COPY --chown=user . .
CMD ["amodalseg", "--help"]

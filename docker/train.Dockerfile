# Training, evaluation and simulated robots. Build from the repository's root:
#   docker build -f docker/train.Dockerfile -t robot-rl-train .
FROM python:3.11-slim-bookworm

# EGL for Meta-World's cameras; everything else needs no system library.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libegl1 libopengl0 libgl1-mesa-dri \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/robot-rl
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# Empty takes torch's CUDA build from PyPI; https://download.pytorch.org/whl/cpu takes the smaller CPU build.
ARG TORCH_INDEX=""
COPY requirements.txt requirements-dev.txt requirements.lock ./
RUN pip install "setuptools<80" wheel \
    && pip install ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "$(grep -o '^torch==[0-9.]*' requirements.txt)" \
    && pip install --no-deps --requirement requirements.lock

COPY . .
RUN pip install --no-deps --no-build-isolation --editable .

# Files that the container writes into a mounted folder belong to this user: build with --build-arg UID=$(id -u).
ARG UID=1000
RUN useradd --create-home --uid "$UID" robot
USER robot
WORKDIR /work
ENTRYPOINT ["robot-rl"]
CMD ["--help"]

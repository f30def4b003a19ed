# A robot's computer: ROS 2 Jazzy with our nodes beside it, no torch. Build from the repository's root:
#   docker build -f docker/robot.Dockerfile -t robot-rl-robot .
FROM ros:jazzy

# v4l-utils lists what a camera offers; the rest is for the environment and the workspace below.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        python3-venv python3-colcon-common-extensions ros-jazzy-rmw-cyclonedds-cpp v4l-utils \
    && rm -rf /var/lib/apt/lists/*

# Beside the system's Python, not in it: ROS needs its own versions there. What ROS brings stays visible.
ENV VIRTUAL_ENV=/opt/venv PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv --system-site-packages "$VIRTUAL_ENV"
ENV PATH="$VIRTUAL_ENV/bin:$PATH"

WORKDIR /opt/robot-rl
COPY requirements.txt requirements-dev.txt requirements.lock ./
# What nodes and `robot-rl up` import, and no more; versions come from the same two files as everywhere.
ARG PACKAGES="numpy|opencv-python-headless|hydra-core|rich|packaging|cyclonedds|rosbags"
# For robot=ros/sim, build with --build-arg SIMULATOR="metaworld|mujoco|gymnasium"; robot=ros/sim_joint needs none.
ARG SIMULATOR="none"
RUN grep -E "^($PACKAGES|$SIMULATOR)==" requirements.txt > /tmp/robot.txt \
    && pip install "setuptools<80" wheel \
    && pip install --constraint requirements.lock --requirement /tmp/robot.txt

COPY . .
# colcon by the environment's Python, so that the nodes' first line names it and not the system's.
RUN pip install --no-deps --no-build-isolation --editable . \
    && . /opt/ros/jazzy/setup.sh \
    && python -m colcon build --base-paths . --build-base /tmp/build --install-base /opt/workspace \
    && rm -rf /tmp/build log

# Over which network, `robot-rl up` and the launch files say by themselves: loopback, unless the robot's yaml names one.
ENV RMW_IMPLEMENTATION=rmw_cyclonedds_cpp
COPY docker/robot-entrypoint.sh /usr/local/bin/robot-entrypoint

# Files that the container writes into a mounted folder belong to this user: build with --build-arg UID=$(id -u).
ARG UID=1000
# The base image may have a user of its own with this number.
RUN (getent passwd "$UID" | cut -d: -f1 | xargs --no-run-if-empty userdel --remove || true) \
    && useradd --create-home --uid "$UID" robot
USER robot
WORKDIR /work
ENTRYPOINT ["robot-entrypoint"]
CMD ["robot-rl", "up", "robot=ros/sim_joint"]

#!/bin/bash
# Makes ROS 2 and our workspace known, then becomes the command, so that it gets the container's signals itself.
set -e
source /opt/ros/jazzy/setup.bash
source /opt/workspace/local_setup.bash
exec "$@"

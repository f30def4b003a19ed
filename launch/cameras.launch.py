"""A robot's camera nodes only, which cannot move anything: `ros2 launch robot_rl cameras.launch.py robot:=my_arm`."""

from robot_rl.commands.up.launch_description import robot_launch


def generate_launch_description():
    """Called by `ros2 launch`."""
    return robot_launch(executables=("camera_node",))

"""A robot's arm node and camera nodes: `ros2 launch robot_rl bringup.launch.py robot:=my_arm`."""

from robot_rl.commands.up.launch_description import robot_launch


def generate_launch_description():
    """Called by `ros2 launch`."""
    return robot_launch()

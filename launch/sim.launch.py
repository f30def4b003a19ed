"""A simulated arm behind the same nodes: `ros2 launch robot_rl sim.launch.py`, or `robot:=sim` for Meta-World."""

from robot_rl.commands.up.launch_description import robot_launch


def generate_launch_description():
    """Called by `ros2 launch`."""
    return robot_launch(robot="sim_joint")

"""Full metadata lives here, not in pyproject.toml, because colcon reads it from setup.py.

One tree is both pip-installable and a ROS 2 ament_python package.
"""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent  # colcon runs a link to this file elsewhere
PACKAGES = find_packages(include=["robot_rl*", "hardware*", "policies*", "data*"])


def pinned(path: str) -> list[str]:
    """Requirement lines of a file, comments dropped."""
    lines = (line.split("#")[0].strip() for line in (HERE / path).read_text().splitlines())
    return [line for line in lines if line]


def files(pattern: str) -> list[str]:
    """Paths below this directory, relative as setuptools wants them."""
    return sorted(str(path.relative_to(HERE)) for path in HERE.glob(pattern))


setup(
    name="robot_rl",
    version="0.1.0",
    description="Teleoperate, train, deploy and correct policies on real robot arms",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    maintainer="robot-rl maintainers",
    maintainer_email="maintainers@robot-rl.invalid",
    python_requires=">=3.11",
    packages=[*PACKAGES, "configs"],
    package_data={
        "configs": ["*.yaml", "*/*.yaml", "*/*/*.yaml"],
        "hardware.ros": ["*.xml"],
        "robot_rl.reports": ["*.j2", "*.css"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/robot_rl"]),
        ("share/robot_rl", ["package.xml", "hardware/ros/cyclonedds.xml", "hardware/ros/fastdds.xml"]),
        ("share/robot_rl/launch", files("launch/*.launch.py")),
        ("share/robot_rl/configs/robot/ros", files("configs/robot/ros/*.yaml")),
    ],
    install_requires=pinned("requirements.txt"),
    extras_require={"dev": pinned("requirements-dev.txt"), "wandb": ["wandb"]},
    entry_points={
        "console_scripts": [
            "robot-rl = robot_rl.cli:main",
            "arm_node = hardware.ros.arm_node:main",
            "camera_node = hardware.ros.camera_node:main",
        ]
    },
    zip_safe=False,
)

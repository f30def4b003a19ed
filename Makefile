# The two commands a new user needs: `make demo` and `make test`. Both create .venv on first use. `make test-ros` judges
# the nodes by the real rclpy, in an environment of its own for each ROS distribution.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TEST_WORKERS ?= auto
ROS_DISTROS ?= jazzy kilted
ROS_VENV ?= $(VENV)-ros
# Waiting OpenMP threads sleep instead of spinning, as the robot-rl command has it.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test test-ros lint format hooks env clean

demo: env
	$(BIN)/robot-rl demo

test: env
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal

test-ros: $(ROS_DISTROS:%=test-ros-%) test-ros-mixed

test-ros-%: $(ROS_VENV)-%/.complete
	$(ROS_VENV)-$*/bin/python -m tests.hardware.ros.build_messages
	ROBOT_RL_ROS=rclpy $(ROS_VENV)-$*/bin/python -m pytest -n $(TEST_WORKERS) --dist worksteal tests/hardware/ros

# Our client on one side, the real rclpy on the other.
test-ros-mixed: env $(ROS_DISTROS:%=$(ROS_VENV)-%/.complete)
	$(foreach distro,$(ROS_DISTROS),ROBOT_RL_ROS_$(shell echo $(distro) | tr a-z A-Z)=$(abspath $(ROS_VENV)-$(distro))/bin/python) \
		$(BIN)/python -m pytest tests/hardware/ros/mixed

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

hooks: env
	$(BIN)/pre-commit install

env: $(VENV)/.complete

# torch first and by itself, so that its own choice of CUDA packages is kept; then the lock, exactly and nothing else.
$(VENV)/.complete: requirements.lock requirements.txt requirements-dev.txt setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "robot-rl needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Cannot create $(VENV). On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "setuptools<80" wheel
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$(grep -o '^torch==[0-9.]*' requirements.txt)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# The wheels exist for Linux on x86-64 and Python 3.10 to 3.14, of which 3.10 is too old for the rest.
.PRECIOUS: $(ROS_VENV)-%/.complete
$(ROS_VENV)-%/.complete: requirements-ros-%.lock
	@[ "$$(uname -sm)" = "Linux x86_64" ] || { echo "make test-ros needs Linux on x86_64, for which alone the ROS wheels exist; this is $$(uname -sm)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' || \
		{ echo "make test-ros needs Python 3.11 to 3.14; $(PYTHON) is $$($(PYTHON) --version). Try: make test-ros PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv --clear $(ROS_VENV)-$* || { echo "Cannot create $(ROS_VENV)-$*. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(ROS_VENV)-$*/bin/python -m pip install --quiet --disable-pip-version-check "setuptools<80" wheel
	$(ROS_VENV)-$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements-ros-$*.lock
	$(ROS_VENV)-$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

clean:
	rm -rf $(VENV) $(ROS_VENV)-* build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

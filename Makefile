# Every target sets up what it needs, once: stamp files in the virtual environment say what is there.
#
#   make demo                     the main job, from nothing
#   make setup ENGINES=gpu        another set of engines: ort | gpu | openvino, comma between
#   make PYTHON=python3.12 VENV=.venv312 test
#
# Where a ROS distribution is sourced (ROS_DISTRO is set) it is used as it is: the environment sees the
# system's packages, nothing of ROS is installed, and colcon builds wm_ros_msgs into install/.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV ?= .venv
# The CPU build where pip finds one. Installed before anything that could pull another.
TORCH ?= torch==2.13.0
PYTHON ?= $(shell for p in python3 python3.12 python3.11; do \
	$$p tools/check_machine.py 2>/dev/null && { echo $$p; exit; }; done; echo python3)

venv := $(abspath $(VENV))
comma := ,
space := $(subst ,, )
# The engines are part of the stamp's name; a later target without ENGINES keeps what is installed.
ENGINES ?= $(or $(subst +,$(comma),$(patsubst .robot-%,%,$(notdir $(wildcard $(venv)/.robot-*)))),ort$(comma)openvino)
robot := $(venv)/.robot-$(subst $(space),+,$(sort $(subst $(comma), ,$(ENGINES))))
ifneq ($(and $(filter ort,$(subst $(comma), ,$(ENGINES))),$(filter gpu,$(subst $(comma), ,$(ENGINES)))),)
$(error ENGINES=$(ENGINES): onnxruntime (ort) and onnxruntime-gpu (gpu) share an import name, choose one)
endif

other_ort := $(if $(findstring gpu,$(ENGINES)),onnxruntime,$(if $(findstring ort,$(ENGINES)),onnxruntime-gpu))
py := $(venv)/bin/python
pip := $(py) -m pip --disable-pip-version-check install -qq --no-compile --progress-bar off
interfaces := msg/package.xml msg/CMakeLists.txt $(wildcard msg/*/*.msg msg/*/*.srv msg/*/*.action)

export PATH := $(venv)/bin:$(PATH)
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST

ifdef ROS_DISTRO
venv_options := --system-site-packages
ros_extras :=
constraints := $(venv)/constraints.txt
run := source install/local_setup.bash && $(py)
else
export AMENT_PREFIX_PATH := $(venv)
venv_options :=
ros_extras := ros,rosbuild,
constraints := constraints.txt
run := $(py)
endif

# --- set-up ------------------------------------------------------------------------------------------

.PHONY: setup setup-train setup-test
setup: $(venv)/.interfaces  ## the robot's side: ROS 2, engines, simulator; no torch
setup-train: $(venv)/.interfaces $(venv)/.train  ## beside it what training and export need: torch
setup-test: $(venv)/.interfaces $(venv)/.train $(venv)/.test

$(venv)/.made:
	@$(PYTHON) tools/check_machine.py
	@echo "[setup] virtual environment $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(venv_options) $(venv)
	@touch $@

# On a sourced distribution its own numpy stays: the messages' extensions are compiled against it.
$(venv)/constraints.txt: constraints.txt | $(venv)/.made
	@grep -viE '^(numpy|opencv|setuptools|ros-|colcon|matplotlib|contourpy|onnx|ml_dtypes)' $< > $@
	@$(py) -c 'import numpy; print("numpy==" + numpy.__version__)' >> $@

# The two builds of ONNX Runtime share an import name: what the other one wrote goes first.
$(robot): setup.py $(constraints) tools/patch_wheels.py | $(venv)/.made
	@echo "[setup] robot side: $(ros_extras)$(ENGINES),sim"
ifneq ($(other_ort),)
	@! $(py) -m pip show -qq $(other_ort) 2> /dev/null \
	    || $(py) -m pip uninstall -qq --yes onnxruntime onnxruntime-gpu
endif
	@$(pip) -c $(constraints) 'setuptools<80'
	@$(pip) -c $(constraints) --no-build-isolation -e '.[$(ros_extras)$(ENGINES),sim]'
	@$(py) -c 'import importlib.metadata as m, sys; \
	    both = {"onnxruntime", "onnxruntime-gpu"} <= {d.name for d in m.distributions()}; \
	    sys.exit("onnxruntime and onnxruntime-gpu are both in $(VENV) and share an import name: make clean-venv" if both else 0)'
	@$(py) tools/patch_wheels.py
	@rm -f $(venv)/.robot $(venv)/.robot-*
	@touch $@

$(venv)/.interfaces: $(interfaces) $(robot)
	@echo "[setup] wm_ros_msgs, generated and compiled"
ifdef ROS_DISTRO
	@command -v colcon > /dev/null || { echo "wm_ros set-up: no colcon: apt install python3-colcon-common-extensions" >&2; exit 1; }
	colcon build --packages-select wm_ros_msgs
else
	@mkdir -p build
	@{ cmake -S msg -B build/wm_ros_msgs-$(notdir $(venv)) -G Ninja -DCMAKE_INSTALL_PREFIX=$(venv) \
	        -DPython3_EXECUTABLE=$(py) -DBUILD_TESTING=OFF \
	    && cmake --build build/wm_ros_msgs-$(notdir $(venv)) \
	    && cmake --install build/wm_ros_msgs-$(notdir $(venv)); } > build/wm_ros_msgs.log 2>&1 \
	    || { tail -40 build/wm_ros_msgs.log >&2; echo "wm_ros set-up: wm_ros_msgs did not build, see build/wm_ros_msgs.log" >&2; exit 1; }
endif
	@touch $@

$(venv)/.train: setup.py $(constraints) | $(robot)
	@echo "[setup] training side: $(TORCH)"
	@$(pip) '$(TORCH)'
	@$(pip) -c $(constraints) --no-build-isolation -e '.[train]'
	@touch $@

$(venv)/.test: setup.py $(constraints) | $(robot)
	@echo "[setup] test tools"
	@$(pip) -c $(constraints) --no-build-isolation -e '.[test]'
	@touch $@

# --- the robot's side --------------------------------------------------------------------------------

.PHONY: demo demo-real demo-plan quality bench bench-plan calibrate
# Engines get their threads from the configuration; this is for what numpy and OpenCV would take.
demo demo-plan quality bench bench-plan calibrate test: export OMP_NUM_THREADS = 1
demo: setup  ## simulator, node and recorder on real ROS 2 for one episode: out/demo/report.html
	$(run) -m wm_ros.nodes.demo $(ARGS)

demo-real: setup-train  ## the same on a real robot's recording, after training on it: out/demo_real
	$(run) -m training.main real --quick
	export OMP_NUM_THREADS=1; $(run) -m wm_ros.nodes.demo_real $(ARGS)

demo-plan: setup  ## a planner reaches 10 goal pictures by asking the world model: out/plan/report.html
	$(run) -m wm_ros.nodes.plan_bench --demo $(ARGS)

quality: setup  ## measure the shipped package: out/quality/quality.json (SEED= PAIRS=)
	$(run) -m wm_ros.evaluation.quality $(if $(SEED),--seed $(SEED)) $(if $(PAIRS),--pairs $(PAIRS)) $(ARGS)

bench: setup  ## time of a frame, a fork, a long session, by engine and arm: out/bench (ARGS=--quick)
	$(run) -m wm_ros.evaluation.speed $(ARGS)

bench-plan: setup  ## the same with 50 goals and every search, 40 minutes, resumable (ARGS=--fresh): out/plan
	$(run) -m wm_ros.nodes.plan_bench $(ARGS)

# Bags by name: each half of them, the one fitted on and the one judged on, holds every kind.
held_out := skills_60000001 skills_60000002 push_60000003 push_60000004 practice_60000005 \
	practice_60000006 skills_60000007 skills_60000008
calibrate: setup  ## fit the shipped package's uncertainty on new bags of the simulator: out/calibration
	rm -rf out/calibration/bags
	for bag in $(held_out); do \
	    $(run) -m wm_ros.cli sim $${bag%_*} --seed $${bag#*_} --frames 400 --out out/calibration/bags/$$bag; \
	done
	$(run) -m wm_ros.cli calibrate tabletop_small $(addprefix out/calibration/bags/,$(held_out)) --write $(ARGS)

# --- training ----------------------------------------------------------------------------------------

.PHONY: train train-tiny train-baselines
train: setup-train  ## from nothing to packages/tabletop_small, resumable, two hours on 2 cores
	$(run) -m training.main tabletop $(ARGS)

train-tiny: setup-train  ## the same program in 3 minutes on a rasterised world
	$(run) -m training.main tiny $(ARGS)

train-baselines: setup-train  ## the none and window packages beside it, 35 to 45 minutes on 2 cores
	$(run) -m training.main baselines $(ARGS)

# --- checks ------------------------------------------------------------------------------------------

.PHONY: test lint build
test: lint  ## set-up, lint and all tests, in under 10 minutes on 2 cores
	$(run) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: setup-test  ## ruff, mypy, import-linter
	ruff check .
	$(py) -m mypy
	lint-imports

build: setup  ## colcon build of both packages into install/
	colcon build --event-handlers console_cohesion+
	@echo "now: source install/setup.bash"

# --- housekeeping ------------------------------------------------------------------------------------

.PHONY: docs constraints clean clean-venv help
docs: setup  ## write config/*.yaml anew from the parameters declared in wm_ros/config.py
	$(run) -m wm_ros.nodes.params --out config

constraints: setup-test  ## print the versions in the environment, for constraints.txt
	@$(py) -m pip freeze --all --exclude-editable

clean:  ## remove what was built and measured, keep the environment
	rm -rf build install log out .pytest_cache .mypy_cache .ruff_cache .import_linter_cache *.egg-info
	rm -f $(venv)/.interfaces

clean-venv:  ## remove the environment
	rm -rf $(venv)

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 18

"""Start the world model and the reference planner on a robot's camera and commands.

    ros2 launch wm_ros planner.launch.py package:=tabletop_small solver:=mppi

Then send goal pictures to the action /planner/reach_goal (wm_ros_msgs/action/ReachGoal), as
docs/planning.md shows.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from wm_ros.config import PlannerConfig, RuntimeConfig
from wm_ros.nodes.table import PROCESSES

MODEL_ARGUMENTS = ('package', 'contract', 'backend')
PLANNER_ARGUMENTS = ('solver', 'candidates', 'rounds')


def generate_launch_description() -> LaunchDescription:
    """Return the arguments and both nodes."""
    planner = PROCESSES['planner']
    model_knobs = {name: RuntimeConfig.__dataclass_fields__[name] for name in MODEL_ARGUMENTS}
    planner_knobs = {name: PlannerConfig.__dataclass_fields__[name] for name in PLANNER_ARGUMENTS}
    declared = [
        DeclareLaunchArgument(
            name, default_value=str(knob.default), description=knob.metadata['doc']
        )
        for name, knob in {**model_knobs, **planner_knobs}.items()
    ]
    parameters = {
        name: ParameterValue(LaunchConfiguration(name), value_type=type(knob.default))
        for name, knob in planner_knobs.items()
    }
    clock = ParameterValue(LaunchConfiguration('use_sim_time'), value_type=bool)
    return LaunchDescription(
        [
            *declared,
            DeclareLaunchArgument(
                'use_sim_time', default_value='False', description='take the time from /clock'
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(
                    PathJoinSubstitution(
                        [FindPackageShare('wm_ros'), 'launch', 'world_model.launch.py']
                    )
                ),
                launch_arguments=[
                    (name, LaunchConfiguration(name))
                    for name in (*MODEL_ARGUMENTS, 'use_sim_time')
                ],
            ),
            Node(
                package='wm_ros',
                executable=planner.executable,
                name=planner.node_name,
                parameters=[{**parameters, 'use_sim_time': clock}],
                output='screen',
            ),
        ]
    )

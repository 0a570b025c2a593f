"""Start what `make demo` starts: the simulator as a robot, the world model, and a recorder.

    ros2 launch wm_ros demo.launch.py kind:=drawer bag:=/tmp/drawer

Ends when the episode does.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, Shutdown
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import IfElseSubstitution, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from wm_ros.config import RuntimeConfig, SimNodeConfig
from wm_ros.nodes.table import PROCESSES

SIM_ARGUMENTS = ('kind', 'seed', 'frames', 'driver', 'loop')
MODEL_ARGUMENTS = ('package', 'backend', 'horizon')


def generate_launch_description() -> LaunchDescription:
    """Return the arguments and the three nodes."""
    sim, recorder = PROCESSES['sim'], PROCESSES['recorder']
    sim_knobs = {name: SimNodeConfig.__dataclass_fields__[name] for name in SIM_ARGUMENTS}
    model_knobs = {name: RuntimeConfig.__dataclass_fields__[name] for name in MODEL_ARGUMENTS}
    declared = [
        DeclareLaunchArgument(
            name, default_value=str(knob.default), description=knob.metadata['doc']
        )
        for name, knob in {**sim_knobs, **model_knobs}.items()
    ]
    sim_parameters = {
        name: ParameterValue(LaunchConfiguration(name), value_type=type(knob.default))
        for name, knob in sim_knobs.items()
    }
    return LaunchDescription(
        [
            *declared,
            DeclareLaunchArgument(
                'record', default_value='True', description='whether a bag is recorded'
            ),
            DeclareLaunchArgument(
                'bag', default_value='demo_bag', description='directory of the bag; must not exist'
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(
                    PathJoinSubstitution(
                        [FindPackageShare('wm_ros'), 'launch', 'world_model.launch.py']
                    )
                ),
                launch_arguments=[(name, LaunchConfiguration(name)) for name in MODEL_ARGUMENTS],
            ),
            Node(
                package='wm_ros',
                executable=recorder.executable,
                name=recorder.node_name,
                parameters=[
                    {
                        name: list(value) if isinstance(value, tuple) else value
                        for name, value in recorder.parameters.items()
                    },
                    {'out': ParameterValue(LaunchConfiguration('bag'), value_type=str)},
                ],
                condition=IfCondition(LaunchConfiguration('record')),
                output='screen',
            ),
            Node(
                package='wm_ros',
                executable=sim.executable,
                name=sim.node_name,
                parameters=[
                    {
                        **sim.parameters,
                        **sim_parameters,
                        'wait_subscribers': ParameterValue(
                            IfElseSubstitution(LaunchConfiguration('record'), '2', '1'),
                            value_type=int,
                        ),
                    }
                ],
                on_exit=Shutdown(reason='the episode has ended'),
                output='screen',
            ),
        ]
    )

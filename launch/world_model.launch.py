"""Start the world model on a robot's camera and commands.

    ros2 launch wm_ros world_model.launch.py package:=tabletop_small camera:=/front/image_raw

Everything else is a parameter: copy share/wm_ros/config/world_model.yaml, give it as params_file.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from wm_ros.config import CAMERA_TOPIC, COMMAND_TOPIC, RuntimeConfig
from wm_ros.nodes.table import CAMERA_INFO_TOPIC, PROCESSES

# Parameters that a launch most often sets; the values given here win over those of params_file.
ARGUMENTS = ('package', 'contract', 'backend', 'horizon', 'autostart')
# Topics of the shipped contract. With a contract of your own name the topics there.
TOPICS = {'camera': CAMERA_TOPIC, 'camera_info': CAMERA_INFO_TOPIC, 'command': COMMAND_TOPIC}


def generate_launch_description() -> LaunchDescription:
    """Return the arguments and the lifecycle node."""
    process = PROCESSES['world_model']
    knobs = {name: RuntimeConfig.__dataclass_fields__[name] for name in ARGUMENTS}
    declared = [
        DeclareLaunchArgument(
            name, default_value=str(knob.default), description=knob.metadata['doc']
        )
        for name, knob in knobs.items()
    ]
    parameters = {
        name: ParameterValue(LaunchConfiguration(name), value_type=type(knob.default))
        for name, knob in knobs.items()
    }
    declared += [
        DeclareLaunchArgument(
            name, default_value=topic, description=f'topic to take instead of {topic}'
        )
        for name, topic in TOPICS.items()
    ]
    clock = ParameterValue(LaunchConfiguration('use_sim_time'), value_type=bool)
    return LaunchDescription(
        [
            *declared,
            DeclareLaunchArgument(
                'params_file',
                description='YAML file with the parameters of the node',
                default_value=PathJoinSubstitution(
                    [FindPackageShare('wm_ros'), 'config', 'world_model.yaml']
                ),
            ),
            DeclareLaunchArgument(
                'use_sim_time', default_value='False', description='take the time from /clock'
            ),
            DeclareLaunchArgument(
                'namespace', default_value='', description='namespace of the node'
            ),
            DeclareLaunchArgument(
                'log_level', default_value='info', description='debug, info, warn, error or fatal'
            ),
            LifecycleNode(
                package='wm_ros',
                executable=process.executable,
                name=process.node_name,
                namespace=LaunchConfiguration('namespace'),
                parameters=[
                    LaunchConfiguration('params_file'),
                    {**parameters, 'use_sim_time': clock},
                ],
                remappings=[(topic, LaunchConfiguration(name)) for name, topic in TOPICS.items()],
                ros_arguments=['--log-level', LaunchConfiguration('log_level')],
                output='screen',
            ),
        ]
    )

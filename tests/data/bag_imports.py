"""A bag read as `robot-rl data import` reads it, and what a live session would have seen of it."""

import contextlib
import threading

from data.archive.schema import decode_episode, problems_of
from data.convert.bag_file import BagFile
from data.convert.bag_script import ImportReport
from data.convert.diffusion_policy import Facts
from data.convert.ros_bag import BagSettings, episodes_of
from hardware.ros.robot_config import RobotConfig
from hardware.ros.stream_reader import StreamReader
from hardware.sync import align
from robot_rl.commands.data.bag_view import bag_layout
from robot_rl.core.errors import StaleSensor
from tests.data.bags import S, robot

LOSSLESS = {"image_left": "png", "image_right": "raw"}
TICKS = 60


def imported(path, section=None, *, start=None, split_topic=None, report=None, facts=None, **options):
    with BagFile(path) as bag:
        layout = bag_layout(section or robot(), start or {}, bag.topics, split_topic)
        report = report or ImportReport()
        reading = BagSettings(options.pop("codecs", LOSSLESS), **options)
        episodes = [*episodes_of(bag, layout, facts or Facts("pick"), reading, report)]
    for episode in episodes:
        assert problems_of(episode) == []
    return [decode_episode(episode) for episode in episodes]


def live(sent, ticks_ns, section=None):
    """What a session sees: messages go to the robot's readers as they arrive, each tick looks at what is there."""
    section = section or robot()
    config = RobotConfig.parse(**{key: value for key, value in section.items() if key != "_target_"})
    readers = {
        name: StreamReader(stream, config.topic(stream.topic), threading.Condition())
        for name, stream in config.streams.items()
    }
    waiting = [*sent]
    seen = {}
    for tick_ns in ticks_ns:
        while waiting and waiting[0].arrival_ns <= tick_ns:
            each = waiting.pop(0)
            for reader in readers.values():
                if reader.topic == each.topic:
                    reader.take(each.message)
        with contextlib.suppress(StaleSensor):
            seen[tick_ns] = align({name: reader.ring for name, reader in readers.items()}, tick_ns)
    return seen


def assert_same_observations(episode, seen):
    assert episode.stamps_ns.tolist() == [*seen]
    for tick, observation in enumerate(seen.values()):
        recorded = episode.observation(tick)
        assert recorded.stamp_ns == observation.stamp_ns
        assert recorded.age_ns == observation.age_ns
        for name, value in observation.values.items():
            assert recorded.values[name].dtype == value.dtype
            assert recorded.values[name].tobytes() == value.tobytes(), (tick, name)


def stamp_of(message):
    return message.header.stamp.sec * S + message.header.stamp.nanosec

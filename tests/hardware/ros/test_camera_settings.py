from __future__ import annotations

import pytest

from hardware.cameras.pattern import PatternCamera
from hardware.cameras.uvc import UvcCamera
from hardware.node_config import BadConfig
from hardware.ros.camera_settings import read_camera
from robot_rl.core.clock import SimulatedClock

PATTERN = {"_target_": "hardware.cameras.pattern.PatternCamera", "width": 320, "height": 240}
WRIST = {"namespace": "/arm/wrist", "source": PATTERN}


def document(**changes) -> dict:
    return {"cameras": {"wrist": {**WRIST, **changes}}}


def test_a_camera_needs_no_more_than_a_place_and_a_source():
    settings = read_camera(document(), "wrist")
    assert (settings.frame, list(settings.publish), settings.jpeg_quality) == ("wrist_camera", ["compressed"], 90)
    assert isinstance(settings.make_source(SimulatedClock()), PatternCamera)


def test_what_the_yaml_fixes_reaches_the_camera():
    source = {"_target_": "hardware.cameras.uvc.UvcCamera", "device": "/dev/video0", "controls": {"gain": 20}}
    settings = read_camera(document(source=source), "wrist").with_controls({"gain": 30.0})
    camera = settings.make_source(SimulatedClock())
    assert isinstance(camera, UvcCamera)
    assert camera.describe()["controls"] == "gain 30"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"namespace": "/"}, "cameras.wrist.namespace is '/'"),
        ({"publish": ["jpeg"]}, r"publish is \['jpeg'\], wanted compressed, raw, or both"),
        ({"publish": []}, "publish is"),
        ({"jpeg_quality": 0}, "jpeg_quality is 0, wanted 1 to 100"),
        ({"frozen_frames": 0}, "frozen_frames is 0"),
        ({"retry_s": 0.0}, "retry_s is 0.0"),
        ({"silent_s": float("inf")}, "silent_s is inf"),
        ({"quality": 3}, r"cameras.wrist has no key 'quality': did you mean 'jpeg_quality'\? It takes namespace"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(changes, words):
    with pytest.raises(BadConfig, match=words):
        read_camera(document(**changes), "wrist")


def test_a_camera_without_a_source_is_named():
    with pytest.raises(BadConfig, match=r"cameras.wrist.source is missing"):
        read_camera({"cameras": {"wrist": {"namespace": "/arm/wrist"}}}, "wrist")


def test_a_camera_that_the_robot_does_not_have_is_answered_with_those_it_has():
    with pytest.raises(BadConfig, match=r"no camera 'scene'.*; there is wrist"):
        read_camera(document(), "scene")
    with pytest.raises(BadConfig, match="there is none"):
        read_camera({}, "scene")


def test_a_source_that_takes_no_such_argument_is_named():
    with pytest.raises(BadConfig, match="exposure"):
        read_camera(document(source={**PATTERN, "exposure": 3}), "wrist").make_source(SimulatedClock())

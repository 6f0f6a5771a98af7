"""The command line's options for a source reach it. An impossible value is refused with the expected ones."""

from __future__ import annotations

import math

import pytest

from iern.runtime.app.command_line import parse
from iern.runtime.sources.settings import LiveTimeouts, RawFormat, SourceSettings


def test_without_options_nothing_is_requested_and_a_lost_source_is_never_given_up():
    assert parse([]).source_settings == SourceSettings()
    assert parse([]).source_settings.timeouts.give_up == math.inf


def test_every_option_reaches_the_settings():
    camera = ["--size", "1280x720", "--fps", "29.97", "--codec", "mjpg", "--give-up", "60", "--frozen-after", "5"]
    options = parse(["--source", "-", "--stdin-format", "640x480:rgb24", *camera])
    assert options.source == "-"
    assert options.source_settings == SourceSettings(
        (1280, 720), 29.97, "MJPG", RawFormat(640, 480, "rgb24"), LiveTimeouts(frozen=5, give_up=60)
    )


def test_zero_means_never_frozen_and_no_reconnect():
    timeouts = parse(["--frozen-after", "0", "--give-up", "0"]).source_settings.timeouts
    assert (timeouts.frozen, timeouts.give_up) == (math.inf, 0)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--size", "big"], "expected WIDTHxHEIGHT as in 640x480, found 'big'"),
        (["--size", "0x480"], "expected WIDTHxHEIGHT as in 640x480, found '0x480'"),
        (["--fps", "fast"], "expected a number of at least 0, found 'fast'"),
        (["--give-up", "-1"], "expected a number of at least 0, found '-1'"),
        (["--frozen-after", "nan"], "expected a number of at least 0, found 'nan'"),
        (["--codec", "motion"], "expected four letters as in MJPG or YUYV, found 'motion'"),
        (["--stdin-format", "640x480:yuv"], "PIXELS one of bgr24, rgb24, bgra, gray, found '640x480:yuv'"),
    ],
)
def test_an_impossible_value_is_refused_with_the_expected_ones(capsys, argv, expected):
    with pytest.raises(SystemExit) as caught:
        parse(argv)
    assert caught.value.code == 2
    assert expected in capsys.readouterr().err


def test_the_timeout_of_a_blocked_read_is_longer_than_that_without_frames():
    """Otherwise a read would be abandoned before the source counts as stalled."""
    assert LiveTimeouts.no_frames < LiveTimeouts.blocked

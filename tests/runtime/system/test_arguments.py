"""Arguments: nothing is taken silently, and no error repeats a secret."""

from __future__ import annotations

import pytest

from iern.runtime.app.command_line import parse
from iern.runtime.system.arguments import Parser


@pytest.mark.parametrize("argv", [["--record", "a.mp4", "--record", "b.mp4"], ["--model", "a.onnx", "--model=b.onnx"]])
def test_an_option_given_twice_is_refused_instead_of_the_last_one_winning(capsys, argv):
    with pytest.raises(SystemExit) as left:
        parse(argv)
    assert left.value.code == 2
    assert f"{argv[0]} is given twice" in capsys.readouterr().err


def test_an_option_that_may_be_repeated_and_a_second_parsing_are_fine():
    assert parse(["--serve", "0", "--allow-source", "A", "--allow-source", "B"]).allow_source == ("A", "B")
    parser = Parser()
    parser.add_argument("--number", type=int)
    assert [parser.parse_args(["--number", text]).number for text in "12"] == [1, 2]


def test_a_source_comes_from_a_file_or_the_environment_so_that_no_list_of_processes_shows_it(tmp_path, monkeypatch):
    secret = "rtsp://user:secret@camera/stream"
    (tmp_path / "camera").write_text(f"{secret}\n", encoding="utf-8")
    assert parse(["--source", f"@{tmp_path / 'camera'}", "--headless"]).source == secret
    monkeypatch.setenv("IERN_SOURCE", secret)
    assert parse([]).source == secret
    assert parse(["--source", "1"]).source == "1"
    monkeypatch.delenv("IERN_SOURCE")
    assert parse([]).source == "0"


def test_a_file_of_arguments_that_is_absent_is_named(capsys, tmp_path):
    with pytest.raises(SystemExit):
        parse(["--source", f"@{tmp_path / 'nowhere'}"])
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["user:secret@host/x?token=secret", "rtsp://user:secret@host", "host/x?token=secret"])
def test_wrong_usage_repeats_no_secret(capsys, word):
    with pytest.raises(SystemExit):
        parse([word])
    assert "secret" not in capsys.readouterr().err


def test_a_prior_is_uniform_or_rates_by_name():
    assert parse([]).prior is None
    assert parse(["--prior", "uniform"]).prior == "uniform"
    assert parse(["--prior", "neutral=0.6, happiness=.2"]).prior == {"neutral": 0.6, "happiness": 0.2}


@pytest.mark.parametrize("text", ["", "training", "neutral", "=0.5", "a=0.5,", "a=0.1,a=0.2", "a=-0.5", "a=nan", "a=x"])
def test_a_prior_that_is_no_rates_is_refused_with_what_was_found(capsys, text):
    with pytest.raises(SystemExit) as left:
        parse(["--prior", text])
    assert left.value.code == 2
    assert "--prior: expected" in capsys.readouterr().err

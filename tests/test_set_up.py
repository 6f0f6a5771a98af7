"""The set-up takes PyTorch's CPU build where it can, and never fails or waits for it; hosted CI runs `.ci/run`."""

from __future__ import annotations

import http.server
import platform
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from repository import ROOT, pyproject

SCRIPT = ROOT / ".ci" / "torch_build.py"
on_a_pc = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64")
    or shutil.which("nvidia-smi") is not None
    or Path("/proc/driver/nvidia/version").exists(),
    reason="the choice is for Linux on x86-64 without an NVIDIA GPU",
)


def choose(index: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """The script in a Python that sees no packages, as before the set-up."""
    words = [sys.executable, "-I", "-S", SCRIPT, index, str(seconds)]
    return subprocess.run(words, capture_output=True, encoding="utf-8", timeout=60, check=False)


@pytest.fixture
def index() -> Iterator[str]:
    """An index on loopback that lists PyTorch."""

    class Lists(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/whl/cpu/torch/" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    with http.server.HTTPServer(("127.0.0.1", 0), Lists) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/whl/cpu"
        server.shutdown()


@on_a_pc
def test_an_index_that_answers_is_used_and_the_size_is_said(index):
    result = choose(index, 30)
    assert (result.returncode, result.stdout) == (0, f"--extra-index-url {index}\n")
    assert "CPU build" in result.stderr


@on_a_pc
def test_an_index_without_pytorch_is_not_used(index):
    result = choose(index.removesuffix("/cpu"), 30)
    assert (result.returncode, result.stdout) == (0, "\n")
    assert "404" in result.stderr


@on_a_pc
def test_an_index_that_never_answers_is_given_up_and_the_size_is_said():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        result = choose(f"http://127.0.0.1:{silent.getsockname()[1]}/whl/cpu", 0.5)
    assert (result.returncode, result.stdout) == (0, "\n")
    assert "GB on disk" in result.stderr


def test_where_pytorch_is_installed_already_there_is_nothing_to_choose():
    result = subprocess.run(
        [sys.executable, SCRIPT, "http://127.0.0.1:9"], capture_output=True, encoding="utf-8", check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_hosted_ci_runs_the_command_that_every_machine_runs_on_the_oldest_and_the_newest_python():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["test"]
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]
    named = [line.rpartition(" ")[2] for line in pyproject()["project"]["classifiers"] if ":: 3." in line]
    assert job["strategy"]["matrix"]["python"] == [named[0], named[-1]]


def test_the_citation_names_the_paper_as_the_readme_does():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    paper = citation["preferred-citation"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"title = {{{paper['title']}}}" in readme
    authors = " and ".join(f"{each['family-names']}, {each['given-names']}" for each in paper["authors"])
    assert f"author = {{{authors}}}" in readme
    assert f"year = {{{paper['year']}}}" in readme
    assert paper["url"] == pyproject()["project"]["urls"]["Paper"]
    assert citation["license"] == pyproject()["project"]["license"]

"""Print the pip option for PyTorch's CPU build where that is enough, and say on stderr how much will be downloaded.

`torch_build.py INDEX [SECONDS]`: it prints `--extra-index-url INDEX` if this is Linux on x86-64 without an NVIDIA GPU
and the index answers in time. Otherwise it prints nothing, and pip takes the build of the usual registry: with CUDA on
Linux. The status is 0 in any case, because the set-up works without this option too.
"""

import importlib.util
import os
import platform
import shutil
import sys
import threading
import urllib.request

WITH_CUDA = "about 4.4 GB on disk"
"""PyTorch 2.14 and the libraries of CUDA 13 that come with it."""
CPU_BUILD = "about a tenth of that with CUDA"


def main() -> None:
    """Decide, print, and end at once, also if a look-up of the name still hangs."""
    index, seconds = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 10.0
    if importlib.util.find_spec("torch") is None:
        option, remark = choose(index, seconds)
        print(remark, file=sys.stderr)
        print(option)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def choose(index: str, seconds: float) -> "tuple[str, str]":
    """-> the pip option, which may be empty, and a sentence about the size."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return "", "PyTorch is the build of the registry for this kind of machine."
    if has_nvidia_gpu():
        return "", f"PyTorch comes with CUDA, for the NVIDIA GPU here ({WITH_CUDA})."
    reason = why_no_answer(index, seconds)
    if reason:
        return "", f"PyTorch comes with CUDA ({WITH_CUDA}), because the index of its CPU build {reason}."
    return f"--extra-index-url {index}", f"PyTorch is its CPU build ({CPU_BUILD}), because no NVIDIA GPU is here."


def has_nvidia_gpu() -> bool:
    """Whether the driver of an NVIDIA GPU is loaded, or its tool is installed."""
    return os.path.exists("/proc/driver/nvidia/version") or shutil.which("nvidia-smi") is not None


def why_no_answer(index: str, seconds: float) -> str:
    """Empty if the index lists PyTorch within `seconds`, otherwise what is wrong with it."""
    found = ["does not answer"]

    def ask() -> None:
        try:
            with urllib.request.urlopen(f"{index}/torch/", timeout=seconds):
                found[0] = ""
        except (OSError, ValueError) as error:
            found[0] = f"cannot be reached ({error})"

    asking = threading.Thread(target=ask, daemon=True)  # the look-up of a name has no time limit of its own
    asking.start()
    asking.join(seconds)
    return found[0]


if __name__ == "__main__":
    main()

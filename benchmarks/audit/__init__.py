"""The same faces under changed light, colour, focus and pose: `python -m benchmarks.audit`, or `iern audit`.

This folder is installed as `iern.audit` (see setup.py), so that its users need no repository.
"""

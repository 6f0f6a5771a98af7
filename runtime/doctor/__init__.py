"""The command `python -m iern.runtime.doctor`: what is installed, what will be used, and how to repair it."""

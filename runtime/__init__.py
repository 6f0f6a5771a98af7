"""The real-time loop and what it needs: no torch, few dependencies, imports nothing else of ours."""

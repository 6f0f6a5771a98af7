"""How many joules a frame takes, where the machine measures it."""

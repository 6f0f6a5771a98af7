"""Small models, made-up data, test servers and doubles of hardware."""

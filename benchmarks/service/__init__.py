"""How many pictures a second the service answers, compared with the library in the same run, and what it loses."""

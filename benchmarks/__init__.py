"""Speed and memory beside the field's trainers: one command, both sides in one run, ratios instead of boasts."""

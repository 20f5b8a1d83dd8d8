"""The embedded default: a painted world, two small pretrained parts, and the whole path from data to report."""

"""The benchmarks: how their official files are read, and the rules by which their answers count."""

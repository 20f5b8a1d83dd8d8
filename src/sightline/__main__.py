"""`python -m sightline`, and `torchrun -m sightline`: the command line. Knows nothing else."""

from sightline.cli import main

if __name__ == "__main__":
    main()

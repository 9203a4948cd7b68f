"""`python -m residency`: the same as the console script `residency`."""

from residency.cli import main

if __name__ == "__main__":
    main()

"""`python -m mlabench`."""

from mlabench.cli.app import main

if __name__ == "__main__":
    main()

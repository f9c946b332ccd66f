"""The command."""

from experiments.map_reduce.example import main

if __name__ == "__main__":
    main()

"""The command."""

import sys

from experiments.kit import runner
from experiments.thm1_decoder_mismatch import experiment

if __name__ == "__main__":
    sys.exit(runner.main(experiment))

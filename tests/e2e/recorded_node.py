"""`kvorum` with a journal of its disk: python -m tests.e2e.recorded_node BESIDE FLAGS…

BESIDE is a folder outside of the data directory. After a `kill -9` the test turns the data directory into what a power
cut at that moment would have left (tests.kit.power_cut).
"""

import sys
from pathlib import Path

from kvorum.main import main

from tests.kit.power_cut import RecordedDataDir

if __name__ == "__main__":
    beside = Path(sys.argv.pop(1))
    main(open_data_dir=lambda root, _: RecordedDataDir.record(root, beside))

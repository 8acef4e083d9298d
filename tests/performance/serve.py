# SPDX-License-Identifier: BSD-2-Clause
"""Run a program with a software TEE, as ``gentee run`` does; for the benchmark alone.

serve.py WAY OPTIONS PROGRAM [ARGUMENT...]: the options of the driver are in JSON.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gentee.device.run import Run
from gentee.drivers.soft import driver


def main() -> int:
    way, options, *argv = sys.argv[1:]
    # Level 0: lines of services would go to the terminal, and are not what is measured.
    return Run(argv, [(driver, json.loads(options))], way=way, log_level=0).run()


if __name__ == "__main__":
    sys.exit(main())

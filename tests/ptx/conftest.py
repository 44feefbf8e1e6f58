"""What launches compiled kernels is collected only where `tests.ptx.plugin` runs them: in `make test-ptx`, and in a
process that test_in_short.py starts.
"""

from __future__ import annotations

import os

if os.environ.get("PTX_EMULATED") != "1":
    collect_ignore = ["test_coverage.py", "test_mutation.py", "test_traffic.py"]

"""A writer that is killed at a call that changes the disk, or after a number of seconds; see `tests.killed`."""

from __future__ import annotations

import time
from pathlib import Path

from diffcore_gpu.store import CounterpartWriter, writer
from tests.killed import answer_jobs, die_at
from tests.store import work


def write(job: dict) -> int:
    """Do the job; the number of counted calls that it took."""
    writer.AUTO_FLUSH_BYTES = 3 * work.image(0).size
    count = die_at(job.get("step", -1))
    with CounterpartWriter(Path(job["path"]), **work.arguments(**job.get("changes", {})), resume=True) as made:
        for row in range(made.num_rows, job.get("num_rows", work.NUM_ROWS) if not made.finished else 0):
            work.add(made, row)
            if row % 7 == 6:
                made.flush()
            time.sleep(job.get("pause", 0))
        made.update_metadata({"generated": job.get("num_rows", work.NUM_ROWS)})
    return count[0]


if __name__ == "__main__":
    answer_jobs(write)

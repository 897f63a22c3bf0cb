"""Every ratio of the metric kernels, one after the other: each is taken within one run."""

from __future__ import annotations

import bench_batch
import bench_format
import bench_numeric
import bench_tokens

if __name__ == "__main__":
    for title, part in (
        ("Token statistics", bench_tokens),
        ("The numeric families", bench_numeric),
        ("Format", bench_format),
        ("Generic batches", bench_batch),
    ):
        print(f"\n{title}")
        part.main()

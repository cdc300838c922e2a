"""The results page: static HTML from results.json and the pictures beside it, and nothing else."""

from ddm_core.benchmark.page.write import write_page

__all__ = ["write_page"]

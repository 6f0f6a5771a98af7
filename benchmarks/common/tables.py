"""The writer of Markdown tables, under the name by which the benchmarks import it."""

from iern.train.evaluation.markdown import markdown_table

__all__ = ["markdown_table"]

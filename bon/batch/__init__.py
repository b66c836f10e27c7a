"""Files of prompts: rows in, winners or training data out, with a journal to resume from."""

from bon.batch.batch_run import Task, stream
from bon.batch.input_rows import Dataset

__all__ = ["Dataset", "Task", "stream"]

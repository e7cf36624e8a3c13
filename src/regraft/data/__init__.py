"""data: where examples come from, and which of them are for testing.

In: a path, a table, a list.     Out: a Dataset: named examples with labels, in a training and a test part.
Never: decodes an example, sees a network, or drops one without saying so.
"""

from __future__ import annotations

from regraft.data.base import Dataset, Example, Reader
from regraft.data.open import READERS, open_data, open_inputs

__all__ = ["READERS", "Dataset", "Example", "Reader", "open_data", "open_inputs"]

"""From a file, a folder, a URL or a generator to raw rows, piece by piece.

Nothing is held whole: memory stays flat on files larger than memory. Every row that stands in a
source becomes ``Placed`` or ``Refused``; what stops a whole source is a ``DataError``.
``hub_dataset`` reads hub data sets, and is no part of this package: planning imports this one, and
must not know the ``datasets`` library.
"""

from pipeline.data.sources.files import local_files, remote_identity
from pipeline.data.sources.reading import generator_chunks, peek, read_chunks

__all__ = [
    "generator_chunks",
    "local_files",
    "peek",
    "read_chunks",
    "remote_identity",
]

"""Which export formats there are, by name: one file each.

The table is written out, so that a name in a recipe leads here and from here to one file.
"""

from collections.abc import Mapping

from factory.formats import trl, trl_tokens
from factory.formats.base import Format
from schemas.export import ExportFormat

FORMATS: Mapping[ExportFormat, Format] = {
    form.name: form
    for form in (
        trl.FORMAT,
        trl_tokens.FORMAT,
    )
}

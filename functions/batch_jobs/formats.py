"""The formats of files, told by the endings of their names."""

from typing import BinaryIO

from functions.batch_jobs.input_file import InputFile
from functions.batch_jobs.results import Schema, Writer
from functions.batch_jobs.rows import Options, Reader
from loader import dtypes
from loader.signature import Signature
from loader.status import Code, ServingError

ENDINGS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".tfrecord": "tfrecord",
    ".tfrecords": "tfrecord",
    ".parquet": "parquet",
    ".npy": "npy",
    ".npz": "npy",
}
"""Ending -> format. `.gz` may follow, except behind Parquet and NPZ, which are compressed themselves."""

FORMATS = ("csv", "jsonl", "tfrecord", "parquet", "npy")


def format_of(file: InputFile, wanted: str = "") -> str:
    """The format of a file.

    Raises:
        ServingError: INVALID_ARGUMENT: its name does not say, or it is compressed where that cannot be.
    """
    ending = next((one for one in ENDINGS if file.plain_name.lower().endswith(one)), "")
    found = wanted or ENDINGS.get(ending, "")
    if not found:
        raise ServingError(Code.INVALID_ARGUMENT, f"{file.url}: its name says no format: --format={'|'.join(FORMATS)}")
    if file.is_compressed and (found == "parquet" or ending == ".npz"):
        raise ServingError(Code.INVALID_ARGUMENT, f"{file.url}: {found} cannot be read through gzip: decompress it")
    return found


def open_reader(file: InputFile, name: str, options: Options) -> Reader:
    """A file of the format `name`, open.

    Raises:
        ServingError: it is no such file; what storage raises.
    """
    if name == "csv":
        from functions.batch_jobs.reader_csv import CsvReader  # noqa: PLC0415  one format is read, the others not

        return CsvReader(file, options)
    if name == "jsonl":
        from functions.batch_jobs.reader_jsonl import JsonlReader  # noqa: PLC0415

        return JsonlReader(file, options)
    if name == "tfrecord":
        from functions.batch_jobs.reader_tfrecord import TfrecordReader  # noqa: PLC0415

        return TfrecordReader(file, options)
    if name == "parquet":
        from functions.batch_jobs.reader_parquet import ParquetReader  # noqa: PLC0415

        return ParquetReader(file, options)
    from functions.batch_jobs.reader_npy import NpyReader  # noqa: PLC0415

    return NpyReader(file, options)


def output_format(name: str, signature: Signature, schema: Schema) -> str:
    """The format of the results where nobody says it: that of the input, where it can hold them."""
    if name != "npy":
        return name
    specs = [signature.outputs[alias] for alias in schema.outputs]
    fixed = all(spec.shape is not None and all(size > 0 for size in spec.shape[1:]) for spec in specs)
    texts = any(spec.dtype == dtypes.STRING.number for spec in specs)
    return "npy" if fixed and not texts and not schema.kept else "jsonl"


def open_writer(file: BinaryIO, name: str, schema: Schema) -> Writer:
    """A part of the format `name` on its way into an open file, which the caller closes."""
    if name == "csv":
        from functions.batch_jobs.writer_csv import CsvWriter  # noqa: PLC0415  one format is written, the others not

        return CsvWriter(file, schema)
    if name == "jsonl":
        from functions.batch_jobs.writer_jsonl import JsonlWriter  # noqa: PLC0415

        return JsonlWriter(file, schema)
    if name == "tfrecord":
        from functions.batch_jobs.writer_tfrecord import TfrecordWriter  # noqa: PLC0415

        return TfrecordWriter(file, schema)
    if name == "parquet":
        from functions.batch_jobs.writer_parquet import ParquetWriter  # noqa: PLC0415

        return ParquetWriter(file, schema)
    from functions.batch_jobs.writer_npy import NpyWriter  # noqa: PLC0415

    return NpyWriter(file, schema)

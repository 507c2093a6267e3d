"""Read a prediction log with DuckDB, Polars and pandas by the manual's own snippets, and check rows and types.

    python read_all.py MANUAL EXPECTED.json

Runs in the directory above `data`. EXPECTED.json has, for each model, {"types": {column: Arrow type}, "rows": [{column:
value}]} as headgate reads them itself. Prints a line for each reader and model; exits with 1 if one differs.
"""

import datetime
import json
import math
import re
import sys

READERS = {"DuckDB": "duckdb", "Polars": "polars", "pandas": "pandas"}

# Arrow's plain types -> what each reader makes of them.
TYPES = {
    "Boolean": ("BOOLEAN", "Boolean", "bool[pyarrow]"),
    "Int8": ("TINYINT", "Int8", "int8[pyarrow]"),
    "Int16": ("SMALLINT", "Int16", "int16[pyarrow]"),
    "Int32": ("INTEGER", "Int32", "int32[pyarrow]"),
    "Int64": ("BIGINT", "Int64", "int64[pyarrow]"),
    "UInt8": ("UTINYINT", "UInt8", "uint8[pyarrow]"),
    "UInt16": ("USMALLINT", "UInt16", "uint16[pyarrow]"),
    "UInt32": ("UINTEGER", "UInt32", "uint32[pyarrow]"),
    "UInt64": ("UBIGINT", "UInt64", "uint64[pyarrow]"),
    "Float32": ("FLOAT", "Float32", "float[pyarrow]"),
    "Float64": ("DOUBLE", "Float64", "double[pyarrow]"),
    "Utf8": ("VARCHAR", "String", "string[pyarrow]"),
    'Timestamp(µs, "UTC")': (
        "TIMESTAMP WITH TIME ZONE",
        "Datetime(time_unit='us', time_zone='UTC')",
        "timestamp[us, tz=UTC][pyarrow]",
    ),
}


def main():
    manual, expected = open(sys.argv[1], encoding="utf-8").read(), json.load(open(sys.argv[2], encoding="utf-8"))
    faults = []
    for reader, kind in READERS.items():
        for model, wanted in expected.items():
            found = read(snippet(manual, reader).replace("model=digits", f"model={model}"), kind)
            wrong = check(found, wanted, list(READERS).index(reader))
            print(f"{'FAILED' if wrong else 'ok'} {reader} {model}: {len(found[1])} rows, {len(found[0])} columns")
            faults += [f"{reader} {model}: {fault}" for fault in wrong]
    print("\n".join(faults[:50]), file=sys.stderr)
    sys.exit(1 if faults else 0)


def snippet(manual, reader):
    """The Python under the reader's heading."""
    section = manual.split(f"\n### {reader}\n", 1)[1]
    return re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]


def read(code, kind):
    """({column: type}, [{column: value}]) of what the snippet calls `predictions`."""
    names = {}
    exec(code, names)
    predictions = names["predictions"]
    if kind == "duckdb":
        table = predictions.to_arrow_table() if hasattr(predictions, "to_arrow_table") else predictions.arrow().read_all()
        types = {column: str(of) for column, of in zip(predictions.columns, predictions.types)}
        return types, table.to_pylist()
    if kind == "polars":
        return {column: str(of) for column, of in predictions.schema.items()}, predictions.to_dicts()
    return {column: str(of) for column, of in predictions.dtypes.items()}, predictions.to_dict("records")


def check(found, wanted, reader):
    types, rows = found
    faults = []
    for column, arrow in wanted["types"].items():
        expected = TYPES.get(arrow)
        if column not in types:
            faults.append(f"no column {column}")
        elif expected and types[column] != expected[reader]:
            faults.append(f"{column}: {arrow} became {types[column]}, expected {expected[reader]}")
    by_id = {row["prediction_id"]: row for row in rows}
    if len(by_id) != len(rows) or len(rows) != len(wanted["rows"]):
        faults.append(f"{len(rows)} rows of {len(by_id)} ids, expected {len(wanted['rows'])}")
    for row in wanted["rows"]:
        other = by_id.get(row["prediction_id"])
        if other is None:
            faults.append(f"no row {row['prediction_id']}")
            continue
        for column, value in row.items():
            if column in other and not same(value, plain(other[column])):
                faults.append(f"{row['prediction_id']} {column}: expected {value!r}, got {plain(other[column])!r}")
    return faults


def plain(value):
    """A reader's value as JSON has it."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if hasattr(value, "ravel"):
        value = value.ravel().tolist() if value.shape else value.item()
    elif hasattr(value, "to_list"):
        value = value.to_list()
    elif hasattr(value, "as_py"):
        value = value.as_py()
    if isinstance(value, (list, tuple)):
        return [plain(element) for element in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def same(wanted, got):
    if isinstance(wanted, list) and isinstance(got, list):
        return len(wanted) == len(got) and all(map(same, wanted, got))
    if isinstance(wanted, dict) and isinstance(got, dict):
        return wanted.keys() == got.keys() and all(same(wanted[name], got[name]) for name in wanted)
    if isinstance(wanted, float) and isinstance(got, (int, float)):
        # The shortest decimal of a float32 is not the float64 of the same value.
        return math.isclose(wanted, got, rel_tol=1e-6, abs_tol=1e-30)
    return wanted == got


if __name__ == "__main__":
    main()

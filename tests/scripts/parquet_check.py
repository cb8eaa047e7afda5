#!/usr/bin/env python3
"""Loads an exported Parquet file with LanceDB and DuckDB and asks for the same neighbours.

    pip install lancedb==0.40.0 duckdb==2.0.0 pyarrow==26.0.1 numpy==2.4.6
    python tests/scripts/parquet_check.py

Builds and runs examples/index_export.rs. Fails if an engine finds other rows, or similarities
that differ by more than rounding.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb
import lancedb
import numpy as np
import pyarrow.parquet as pq

TOLERANCE = 1e-5


def compare(engine: str, expected: list, found: list) -> None:
    """Rows must be the same; those that differ by less than rounding may change places."""
    assert len(found) == len(expected) == 10, (engine, len(found), len(expected))
    for want, (key, similarity) in zip(expected, found):
        assert abs(want["similarity"] - similarity) < TOLERANCE, (engine, want, key, similarity)
    assert {want["key"] for want in expected} == {key for key, _ in found}, engine


def main() -> None:
    program = sys.argv[1:] or [
        "cargo", "run", "--release", "--example", "index_export", "--features", "parquet", "--",
    ]
    with tempfile.TemporaryDirectory() as folder:
        output = subprocess.run([*program, folder], check=True, stdout=subprocess.PIPE).stdout
        answers = [json.loads(line) for line in output.splitlines()]
        path = str(Path(folder) / "index.parquet")
        table = pq.read_table(path)
        print(table.schema)
        assert table.num_rows == 1999
        assert table["key"].to_pylist() == [b.decode() for b in table["key_bytes"].to_pylist()]
        assert table["time"].null_count == 1999 - sum(row % 3 != 0 for row in range(2000) if row != 5)
        vectors = np.stack(table["vector"].to_numpy())
        assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5

        lance = lancedb.connect(str(Path(folder) / "lance"))
        # LanceDB has no maps: the tag becomes a column, as a user would do.
        days = [dict(tags)["day"] for tags in table["tags"].to_pylist()]
        rows = lance.create_table("index", table.drop_columns(["tags"]).append_column("day", [days]))
        duck = duckdb.connect()
        for answer in answers:
            query = np.array(answer["query"], dtype=np.float32)
            for name, where in [("all", None), ("day", "day = '1'")]:
                search = rows.search(query, vector_column_name="vector").distance_type("cosine")
                if where:
                    search = search.where(where, prefilter=True)
                hits = search.limit(10).to_list()
                compare("LanceDB", answer[name], [(h["key"], 1 - h["_distance"]) for h in hits])
                condition = "WHERE tags['day'] = '1'" if where else ""
                hits = duck.execute(
                    "SELECT key, array_cosine_similarity(vector::FLOAT[96], ?::FLOAT[96]) AS s"
                    f" FROM read_parquet(?) {condition} ORDER BY s DESC LIMIT 10",
                    [query.tolist(), path],
                ).fetchall()
                compare("DuckDB", answer[name], hits)
    print(f"LanceDB {lancedb.__version__} and DuckDB {duckdb.__version__} agree"
          f" on {2 * len(answers)} searches")


if __name__ == "__main__":
    main()

//! Export as Parquet, for engines that search more than one machine can hold.
//!
//! Columns: `key` (UTF-8; bytes that are not are replaced), `key_bytes` (exactly), `modality`,
//! `tags` (map of strings), `time` (milliseconds, UTC, may be null) and `vector` (fixed-size
//! list of float32, a unit vector).

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, FixedSizeListBuilder, Float32Builder, MapBuilder, MapFieldNames, StringBuilder,
    TimestampMillisecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use crate::index::filter::Filter;
use crate::index::{IndexError, Reader};

/// Rows that are in memory at once.
const BATCH: usize = 8192;

fn schema(dimension: i32) -> Schema {
    let entries =
        vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)];
    let entries = Field::new("key_value", DataType::Struct(entries.into()), false);
    let item = Field::new("item", DataType::Float32, false);
    Schema::new(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("key_bytes", DataType::Binary, false),
        Field::new("modality", DataType::Utf8, false),
        Field::new("tags", DataType::Map(Arc::new(entries), false), false),
        Field::new("time", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true),
        Field::new("vector", DataType::FixedSizeList(Arc::new(item), dimension), false),
    ])
}

impl Reader {
    /// Writes the rows that pass `filter` as one Parquet file and returns how many there are.
    ///
    /// # Errors
    /// [`IndexError::Damaged`] at the first damaged row; [`IndexError::Parquet`] with what the
    /// Parquet writer says.
    pub fn export_parquet(
        &self,
        path: &Path,
        filter: &Filter,
        mut progress: impl FnMut(u64),
    ) -> Result<u64, IndexError> {
        let failed = |reason: String| IndexError::Parquet { path: path.into(), reason };
        let file = File::create(path).map_err(|e| IndexError::io("making", path, e))?;
        let schema = Arc::new(schema(self.dimension() as i32));
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let mut writer = ArrowWriter::try_new(file, schema.clone(), Some(properties))
            .map_err(|e| failed(e.to_string()))?;
        let rows = self.matching(filter)?;
        let mut done = 0;
        for rows in rows.chunks(BATCH) {
            let columns = self.columns(rows, &schema).map_err(|e| match e {
                ColumnError::Index(error) => error,
                ColumnError::Arrow(reason) => failed(reason),
            })?;
            let batch =
                RecordBatch::try_new(schema.clone(), columns).map_err(|e| failed(e.to_string()))?;
            writer.write(&batch).map_err(|e| failed(e.to_string()))?;
            done += rows.len() as u64;
            progress(done);
        }
        writer.close().map_err(|e| failed(e.to_string()))?;
        Ok(done)
    }

    fn columns(&self, rows: &[u32], schema: &Schema) -> Result<Vec<ArrayRef>, ColumnError> {
        let mut keys = StringBuilder::new();
        let mut key_bytes = BinaryBuilder::new();
        let mut modalities = StringBuilder::new();
        let names =
            MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
        let mut tags = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
        let mut times = TimestampMillisecondBuilder::new().with_timezone("UTC");
        let DataType::FixedSizeList(item, length) = schema.field(5).data_type() else {
            return Err(ColumnError::Arrow("the schema has no vectors".into()));
        };
        let mut vectors =
            FixedSizeListBuilder::new(Float32Builder::new(), *length).with_field(item.clone());
        for &row in rows {
            let entry = self.entry(row)?;
            keys.append_value(String::from_utf8_lossy(&entry.key));
            key_bytes.append_value(&entry.key);
            modalities.append_value(entry.modality.to_string());
            for tag in entry.tags.iter() {
                tags.keys().append_value(tag.name());
                tags.values().append_value(tag.value());
            }
            tags.append(true).map_err(|e| ColumnError::Arrow(e.to_string()))?;
            times.append_option(entry.time);
            vectors.values().append_slice(&self.vector(row)?);
            vectors.append(true);
        }
        Ok(vec![
            Arc::new(keys.finish()),
            Arc::new(key_bytes.finish()),
            Arc::new(modalities.finish()),
            Arc::new(tags.finish()),
            Arc::new(times.finish()),
            Arc::new(vectors.finish()),
        ])
    }
}

/// What can go wrong while columns are filled.
enum ColumnError {
    Index(IndexError),
    Arrow(String),
}

impl From<IndexError> for ColumnError {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

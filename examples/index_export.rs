//! Makes a small index, exports it as Parquet, and prints what searches in it find: the other
//! half of `tests/scripts/parquet_check.py`, which asks LanceDB and DuckDB the same.
//!
//!     cargo run --example index_export --features parquet -- FOLDER

use std::error::Error;
use std::path::PathBuf;

use sextant::index::{Filter, Index, NewRow, ScanOptions, Tag, Tags};
use sextant::{Embedding, Modality, SpaceId};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: index_export FOLDER")?);
    let space = SpaceId::from_bytes([1; 32]);
    let mut state = 88_172_645_463_325_252u64;
    let mut vector = || -> Vec<f32> {
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..96).map(|_| next() + next() + next()).collect()
    };
    let embeddings: Vec<Embedding> = (0..2000)
        .map(|_| Embedding::new(space, Modality::Image, vector()))
        .collect::<Result<_, _>>()?;
    let keys: Vec<String> = (0..2000).map(|row| format!("photos/{row} é.jpg")).collect();
    let tags: Vec<Tags> = (0..2)
        .map(|day| Tags::new([Tag::new("day", day.to_string())?]))
        .collect::<Result<_, _>>()?;
    let rows: Vec<NewRow<'_>> = (0..2000)
        .map(|row| NewRow {
            tags: &tags[row % 2],
            time: (row % 3 != 0).then_some(1_700_000_000_000 + row as i64),
            ..NewRow::new(keys[row].as_bytes(), &embeddings[row])
        })
        .collect();
    let index = folder.join("index");
    let mut writer = Index::create(&index, space, 96)?;
    writer.append(&rows)?;
    writer.remove(keys[5].as_bytes())?;
    writer.commit()?;
    let reader = Index::open(&index)?;
    reader.export_parquet(&folder.join("index.parquet"), &Filter::default(), |_| {})?;
    for _ in 0..10 {
        let query = Embedding::new(space, Modality::Image, vector())?;
        let day = Filter { tags: vec!["day=1".parse()?], ..Filter::default() };
        let mut found = Vec::new();
        for filter in [Filter::default(), day] {
            let hits = reader.search(&[query.clone()], 10, &filter, &ScanOptions::default())?;
            let mut list = Vec::new();
            for hit in &hits[0] {
                let key = String::from_utf8(reader.entry(hit.row)?.key)?;
                list.push(serde_json::json!({ "key": key, "similarity": hit.similarity }));
            }
            found.push(list);
        }
        let line = serde_json::json!({ "query": query.values(), "all": found[0], "day": found[1] });
        println!("{line}");
    }
    Ok(())
}

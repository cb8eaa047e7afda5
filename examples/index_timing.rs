//! Answers timing requests over a pipe, so that a script can alternate between engines.
//!
//!     cargo run --release --example index_timing -- VECTORS.npy QUERIES.npy FOLDER
//!
//! Imports the vectors into FOLDER/index unless it is there, then for each line
//! `exact|fast THREADS QUERIES` searches the top 10 of so many queries at once and prints the
//! milliseconds and the rows that were found, as JSON. `memory` prints the anonymous memory.

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use sextant::index::{Filter, Index, Keys, NpyReader, ScanOptions};
use sextant::{Embedding, Modality, SpaceId};

fn import(vectors: &Path, folder: &Path, space: SpaceId) -> Result<(), Box<dyn Error>> {
    let columns = NpyReader::open(vectors)?.columns();
    let start = Instant::now();
    let mut writer = Index::create(folder, space, columns)?;
    let keys = Keys::Numbered("row".into());
    let imported = writer.import(vectors, &keys, Modality::Image, |_| {})?;
    let seconds = start.elapsed().as_secs_f64();
    eprintln!("imported {:.0} rows/s, each batch durable", imported.rows as f64 / seconds);
    writer.build_sketch()?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [vectors, queries, folder] = &arguments[..] else {
        return Err("usage: index_timing VECTORS.npy QUERIES.npy FOLDER".into());
    };
    let space = SpaceId::from_bytes([1; 32]);
    let folder = Path::new(folder).join("index");
    if !folder.exists() {
        import(Path::new(vectors), &folder, space)?;
        // What importing needed is not to count as memory of searching.
        let program = std::env::current_exe()?;
        let status = std::process::Command::new(program).args(&arguments).status()?;
        std::process::exit(status.code().unwrap_or(1));
    }
    let mut array = NpyReader::open(Path::new(queries))?;
    let mut values = Vec::new();
    array.read_rows(usize::MAX, &mut values)?;
    let queries: Vec<Embedding> = values
        .chunks_exact(array.columns())
        .map(|vector| Embedding::new(space, Modality::Image, vector.to_vec()))
        .collect::<Result<_, _>>()?;
    drop(values);
    let reader = Index::open(&folder)?;
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["memory"] => {
                let status = std::fs::read_to_string("/proc/self/status")?;
                let anonymous = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
                writeln!(
                    output,
                    "{{\"kilobytes\": {}}}",
                    anonymous.map_or("null", |text| { text.trim().trim_end_matches(" kB") })
                )?;
            }
            [mode, threads, count] => {
                let fast = mode == "fast";
                let options = ScanOptions { threads: threads.parse()?, fast, rescore: true };
                let queries =
                    queries.get(..count.parse()?).ok_or("so many queries there are not")?;
                let start = Instant::now();
                let found = reader.search(queries, 10, &Filter::default(), &options)?;
                let milliseconds = start.elapsed().as_secs_f64() * 1e3;
                let rows: Vec<Vec<u32>> =
                    found.iter().map(|hits| hits.iter().map(|hit| hit.row).collect()).collect();
                writeln!(output, "{}", serde_json::json!({ "ms": milliseconds, "rows": rows }))?;
            }
            _ => return Err(format!("not a request: {line}").into()),
        }
        output.flush()?;
    }
    Ok(())
}

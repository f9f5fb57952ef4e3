//! Runs one hot path once, so that its instructions can be counted: see `benches/instructions.sh`.
//!
//! What it may not know: who counts. Where data comes from and goes: the name of a path in; nothing out.

// Talking to the terminal is what this program does.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use engine::{
    Dice, count_known, entry, looking_up, read_back, reading, repository, rows, store_chunks, store_entries,
    store_files, store_pages, texts,
};
use repo::{ChunkId, FileNode, Repository, Result};
use std::hint::black_box;
use std::process::ExitCode;
use store::Lanes;

const PATHS: [&str; 8] = [
    "store-pages",
    "store-files",
    "look-up-hit",
    "look-up-miss",
    "entries-write",
    "entries-read",
    "entries-find",
    "read-back",
];
const PAGES_BYTES: usize = 4 << 20;
const FILES: u64 = 500;
const CHUNKS: u64 = 20_000;
const ENTRIES: u64 = 20_000;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [] => {
            PATHS.iter().for_each(|path| println!("{path}"));
            ExitCode::SUCCESS
        }
        [path] if PATHS.contains(&path.as_str()) => match repository(Lanes::Inline).and_then(|r| run(path, &r)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("engine: {path}: {e}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("usage: engine [PATH]    runs one path once; without one, lists them");
            ExitCode::from(2)
        }
    }
}

/// Only what happens in here is counted. It is called by name.
#[inline(never)]
fn counted(work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    work()
}

fn run(path: &str, repository: &Repository) -> Result<()> {
    match path {
        "store-pages" => {
            let data = rows(1, PAGES_BYTES);
            counted(&mut || store_pages(repository, &data).map(drop))
        }
        "store-files" => {
            let files = texts(FILES);
            counted(&mut || store_files(repository, &files).map(drop))
        }
        "look-up-hit" => {
            let (_, ids) = store_chunks(repository, CHUNKS)?;
            let mut capture = looking_up(repository)?;
            counted(&mut || count_known(&mut capture, &ids).map(drop))
        }
        "look-up-miss" => {
            store_chunks(repository, CHUNKS)?;
            let ids: Vec<ChunkId> = (0..CHUNKS).map(stranger).collect();
            let mut capture = looking_up(repository)?;
            counted(&mut || count_known(&mut capture, &ids).map(drop))
        }
        "entries-write" => counted(&mut || store_entries(repository, ENTRIES).map(drop)),
        "entries-read" | "entries-find" => {
            let committed = store_entries(repository, ENTRIES)?;
            let reading = reading(repository)?;
            let reader = reading.open(&committed.snapshot)?;
            let wanted: Vec<Vec<u8>> = (0..20).map(|n| entry(n * 997, FileNode::default()).key).collect();
            counted(&mut || match path {
                "entries-read" => reader.entries(b"").try_for_each(|located| located.map(|l| drop(black_box(l)))),
                _ => wanted.iter().try_for_each(|key| reader.get(key).map(|l| drop(black_box(l)))),
            })
        }
        _ => {
            let committed = store_pages(repository, &rows(1, PAGES_BYTES))?;
            let reading = reading(repository)?;
            let reader = reading.open(&committed.snapshot)?;
            counted(&mut || read_back(&reader).map(drop))
        }
    }
}

/// A name that nothing has.
fn stranger(n: u64) -> ChunkId {
    let mut dice = Dice::new(!n);
    let mut id = [0; 32];
    id.chunks_mut(8).for_each(|part| part.copy_from_slice(&dice.roll().to_le_bytes()));
    ChunkId(id)
}

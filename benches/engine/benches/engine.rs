//! The engine's hot paths, timed: `cargo bench -p engine`.
//!
//! What it may not know: the inside of the engine. Where data comes from and goes: a repository in memory, so that no
//! disk is measured.

use criterion::{BatchSize, Criterion, Throughput};
use engine::{
    count_known, entry, looking_up, read_back, reading, repository, rows, store_chunks, store_entries, store_files,
    store_pages, texts,
};
use repo::{ChunkId, FileNode};
use std::hint::black_box;
use std::time::Duration;
use store::{Lanes, World};

const PAGES_BYTES: usize = 64 << 20;
const FILES: u64 = 5_000;
const CHUNKS: u64 = 500_000;
const LOOK_UPS: usize = 10_000;
const ENTRIES: u64 = 100_000;

/// Cut, hash, compress, seal, pack, store: everything of a backup but reading files.
fn pipeline(c: &mut Criterion) {
    let mut group = c.benchmark_group("pipeline");
    let pages = rows(1, PAGES_BYTES);
    let files = texts(FILES);
    let files_bytes: usize = files.iter().map(Vec::len).sum();
    let fresh = |lanes: Lanes| move || repository(lanes).expect("made");
    for (name, lanes) in [("1 lane", Lanes::Inline), ("all lanes", World::real().lanes)] {
        group.throughput(Throughput::Bytes(pages.len() as u64));
        group.bench_function(format!("pages, {name}"), |b| {
            b.iter_batched(fresh(lanes), |r| store_pages(&r, &pages).expect("stored"), BatchSize::PerIteration);
        });
        group.throughput(Throughput::Bytes(files_bytes as u64));
        group.bench_function(format!("small files, {name}"), |b| {
            b.iter_batched(fresh(lanes), |r| store_files(&r, &files).expect("stored"), BatchSize::PerIteration);
        });
    }
    group.finish();
}

/// Whether a chunk is known, among half a million, in no order.
fn look_up(c: &mut Criterion) {
    let repository = repository(Lanes::Inline).expect("made");
    let (_, ids) = store_chunks(&repository, CHUNKS).expect("stored");
    let step = ids.len() / LOOK_UPS;
    let known: Vec<ChunkId> = ids.iter().step_by(step).copied().collect();
    let strangers: Vec<ChunkId> = known.iter().map(|id| ChunkId(id.0.map(|byte| !byte))).collect();
    let mut group = c.benchmark_group("look-up");
    group.throughput(Throughput::Elements(known.len() as u64));
    for (name, ids) in [("hit", &known), ("miss", &strangers)] {
        group.bench_function(name, |b| {
            let mut capture = looking_up(&repository).expect("begins");
            b.iter(|| count_known(&mut capture, ids).expect("looked up"));
        });
    }
    group.finish();
}

/// The stream of entries: written, read from end to end, and one path found.
fn entries(c: &mut Criterion) {
    let mut group = c.benchmark_group("entries");
    group.throughput(Throughput::Elements(ENTRIES));
    let fresh = || repository(Lanes::Inline).expect("made");
    group.bench_function("write", |b| {
        b.iter_batched(fresh, |r| store_entries(&r, ENTRIES).expect("stored"), BatchSize::PerIteration);
    });
    let repository = fresh();
    let committed = store_entries(&repository, ENTRIES).expect("stored");
    let reading = reading(&repository).expect("reads");
    let reader = reading.open(&committed.snapshot).expect("opens");
    group.bench_function("read", |b| {
        b.iter(|| reader.entries(b"").for_each(|located| drop(black_box(located.expect("reads")))))
    });
    group.throughput(Throughput::Elements(1));
    let mut n = 0;
    group.bench_function("find one path", |b| {
        b.iter(|| {
            n = (n + 9_973) % ENTRIES;
            reader.get(&entry(n, FileNode::default()).key).expect("reads").expect("is there")
        });
    });
    group.finish();
}

/// From a snapshot to verified bytes: everything of a restore but writing files.
fn restore(c: &mut Criterion) {
    let mut group = c.benchmark_group("restore");
    group.throughput(Throughput::Bytes(PAGES_BYTES as u64));
    for (name, lanes) in [("1 lane", Lanes::Inline), ("all lanes", World::real().lanes)] {
        let repository = repository(lanes).expect("made");
        let committed = store_pages(&repository, &rows(1, PAGES_BYTES)).expect("stored");
        group.bench_function(format!("pages, {name}"), |b| {
            b.iter_batched(
                || reading(&repository).expect("reads"),
                |reading| read_back(&reading.open(&committed.snapshot).expect("opens")).expect("comes back"),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn main() {
    let quick = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(5));
    let mut c = quick.configure_from_args();
    [pipeline, look_up, entries, restore].iter().for_each(|measure| measure(&mut c));
    c.final_summary();
}

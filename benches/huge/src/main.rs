//! Peak memory of each kind of work against the size of the repository: it must be bounded by configuration.
//!
//! What it may not know: the inside of the engine. Where data comes from and goes: `synthetic` makes repositories; every
//! step runs in a process of its own, our own program wherever it has the verb; a table and a part of a document.

// Talking to the terminal is what this program does.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod synthetic;

use peers::document::{self, Origin, workspace};
use peers::timed::{Cost, Job};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use synthetic::{Home, Size, path_of};

const USAGE: &str = "usage: cargo run --release -p huge -- --work DIR [options]

--work DIR         a new or empty directory for everything; it is removed at the end
--keep             keep it
--scales X,Y       sizes to measure, one after another; 1 is --chunks and --files (default 0.05,1)
--chunks N         chunks of content at scale 1 (default 50000000)
--files N          files at scale 1 (default 10000000)
--chunk-bytes N    bytes of a chunk before compression, at least 16 (default 8192: 64 chunks share a record)
--pack-bytes N     bytes at which a pack is closed (default 4500: about 128 chunks)
--limit-mib N      exit 1 when a step needs more memory (default 300)
--backstay FILE    our program (default: target/release/backstay)
--markdown FILE    replace the part between the markers in this document";

struct Request {
    work: PathBuf,
    keep: bool,
    scales: Vec<f64>,
    chunks: u64,
    files: u64,
    chunk_bytes: u64,
    pack_bytes: u64,
    limit_mib: u64,
    backstay: PathBuf,
    markdown: Option<PathBuf>,
}

impl Request {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Request, String> {
        let mut request = Request {
            work: PathBuf::new(),
            keep: false,
            scales: vec![0.05, 1.0],
            chunks: 50_000_000,
            files: 10_000_000,
            chunk_bytes: 8192,
            pack_bytes: 4500,
            limit_mib: 300,
            backstay: workspace().join("target/release/backstay"),
            markdown: None,
        };
        while let Some(option) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{option} needs a value"));
            match option.as_str() {
                "--work" => request.work = absolute(&value()?)?,
                "--keep" => request.keep = true,
                "--scales" => request.scales = value()?.split(',').map(number).collect::<Result<_, _>>()?,
                "--chunks" => request.chunks = number(&value()?)?,
                "--files" => request.files = number(&value()?)?,
                "--chunk-bytes" => request.chunk_bytes = number::<u64>(&value()?)?.max(16),
                "--pack-bytes" => request.pack_bytes = number(&value()?)?,
                "--limit-mib" => request.limit_mib = number(&value()?)?,
                "--backstay" => request.backstay = absolute(&value()?)?,
                "--markdown" => request.markdown = Some(absolute(&value()?)?),
                other => return Err(format!("there is no option {other}")),
            }
        }
        if request.work.as_os_str().is_empty() {
            return Err("where? --work DIR".to_owned());
        }
        Ok(request)
    }

    fn size(&self, scale: f64) -> Size {
        let scaled = |n: u64| ((n as f64 * scale) as u64).max(1);
        let Request { chunk_bytes, pack_bytes, .. } = *self;
        Size { chunks: scaled(self.chunks), files: scaled(self.files), chunk_bytes, pack_bytes }
    }
}

fn absolute(path: &str) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|e| format!("{path}: {e}"))
}

fn number<T: std::str::FromStr + PartialOrd + Default>(text: &str) -> Result<T, String> {
    text.parse().ok().filter(|n| *n > T::default()).ok_or_else(|| format!("{text} is no number above 0"))
}

/// The first argument of a process that does one step.
const STEP: &str = "--step";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.split_first() {
        Some((first, rest)) if first == STEP => step(rest).map(|()| true),
        _ => match Request::parse(args.into_iter()) {
            Ok(request) => measure(&request),
            Err(what) => {
                eprintln!("huge: {what}\n{USAGE}");
                return ExitCode::from(2);
            }
        },
    };
    match done {
        Ok(within) => ExitCode::from(u8::from(!within)),
        Err(what) => {
            eprintln!("huge: {what}");
            ExitCode::FAILURE
        }
    }
}

/// What only the engine can do without real files.
fn step(args: &[String]) -> Result<(), String> {
    let [name, dir, numbers @ ..] = args else { return Err("which step?".to_owned()) };
    let numbers = numbers.iter().map(|text| number(text)).collect::<Result<Vec<u64>, _>>()?;
    let [chunks, files, chunk_bytes, pack_bytes] = numbers[..] else { return Err("how large?".to_owned()) };
    let (home, size) = (Home::new(Path::new(dir)), Size { chunks, files, chunk_bytes, pack_bytes });
    match name.as_str() {
        "build" => synthetic::build(&home, &size),
        _ => synthetic::increment(&home, &size),
    }
}

/// What was measured at one scale.
struct Measured {
    size: Size,
    packs: u64,
    bytes: u64,
    costs: Vec<(&'static str, Cost)>,
}

fn measure(request: &Request) -> Result<bool, String> {
    std::fs::create_dir_all(&request.work).map_err(|e| format!("{}: {e}", request.work.display()))?;
    let mut inside = std::fs::read_dir(&request.work).map_err(|e| format!("{}: {e}", request.work.display()))?;
    if inside.next().is_some() {
        return Err(format!("{} is not empty", request.work.display()));
    }
    let origin = Origin::here(&request.work);
    let measured: Result<Vec<Measured>, String> =
        request.scales.iter().map(|scale| at_scale(request, *scale)).collect();
    if !request.keep {
        std::fs::remove_dir_all(&request.work).map_err(|e| format!("{}: {e}", request.work.display()))?;
    }
    let measured = measured?;
    let table = markdown(&origin, &measured);
    println!("{table}");
    if let Some(path) = &request.markdown {
        document::replace(path, "huge", &table)?;
    }
    let peaks = measured.iter().flat_map(|one| one.costs.iter().map(|(_, cost)| cost.peak_bytes));
    Ok(peaks.max().unwrap_or(0) <= request.limit_mib << 20)
}

fn at_scale(request: &Request, scale: f64) -> Result<Measured, String> {
    let size = request.size(scale);
    let dir = request.work.join(format!("scale-{scale}"));
    std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let home = Home::new(&dir);
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let engine = |name: &str| {
        let job = Job::new(&own).arg(STEP).arg(name).arg(&dir);
        [size.chunks, size.files, size.chunk_bytes, size.pack_bytes].iter().fold(job, |job, n| job.arg(n.to_string()))
    };
    let backstay = || {
        Job::new(&request.backstay)
            .env("BACKSTAY_REPOSITORY", home.repository())
            .env("BACKSTAY_KEY_FILE", home.key())
            .env("BACKSTAY_CACHE_DIR", dir.join("cache"))
            .env("BACKSTAY_STATE_DIR", dir.join("state"))
            .words("--quiet --no-progress")
    };
    let mut costs = Vec::new();
    let mut take = |name: &'static str, job: &Job| -> Result<(), String> {
        let cost = job.timed(&dir).map_err(|e| format!("{name}: {e}"))?;
        let mebibytes = cost.peak_bytes >> 20;
        eprintln!("{scale} {name:28} {:8.2} s {:8.2} CPU s {mebibytes:5} MiB", cost.wall, cost.cpu);
        costs.push((name, cost));
        Ok(())
    };
    let some_path = path_of(size.files / 2);
    take("first backup", &engine("build"))?;
    take("incremental backup", &engine("increment"))?;
    take("list snapshots", &backstay().words("snapshots"))?;
    take("look at one path", &backstay().words("ls").arg(format!("latest:{some_path}")))?;
    take("find a path by its name", &backstay().words("find --snapshot latest").arg(&some_path))?;
    take("verify: listed", &backstay().words("verify"))?;
    take("verify: digests", &backstay().words("verify --digests"))?;
    backstay().words("forget --keep-last 1").output()?;
    take("prune after forget", &backstay().words("prune"))?;
    let (packs, bytes) = count(&home.repository())?;
    if !request.keep {
        std::fs::remove_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    }
    Ok(Measured { size, packs, bytes, costs })
}

/// How many packs there are, and how many bytes in all.
fn count(repository: &Path) -> Result<(u64, u64), String> {
    let (mut packs, mut bytes) = (0, 0);
    let mut waiting = vec![repository.to_owned()];
    let mut walk = || -> std::io::Result<()> {
        while let Some(dir) = waiting.pop() {
            for entry in std::fs::read_dir(&dir)? {
                let entry = entry?;
                let meta = entry.metadata()?;
                match meta.is_dir() {
                    true => waiting.push(entry.path()),
                    false => bytes += meta.len(),
                }
                packs += u64::from(meta.is_file() && dir.starts_with(repository.join("packs")));
            }
        }
        Ok(())
    };
    walk().map_err(|e| format!("{}: {e}", repository.display()))?;
    Ok((packs, bytes))
}

fn markdown(origin: &Origin, measured: &[Measured]) -> String {
    let mut out = format!("- {}, commit {}\n- machine: {}\n\n", origin.date, origin.commit, origin.machine);
    let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let line = |name: &str, cell: &dyn Fn(&Measured) -> String| {
        row(std::iter::once(name.to_owned()).chain(measured.iter().map(cell)).collect())
    };
    out.push_str(&line("", &|one| format!("{} chunks", one.size.chunks)));
    out.push_str(&format!("|---|{}\n", "--:|".repeat(measured.len())));
    out.push_str(&line("files", &|one| one.size.files.to_string()));
    out.push_str(&line("packs left after the prune", &|one| one.packs.to_string()));
    out.push_str(&line("repository, MB", &|one| format!("{:.0}", one.bytes as f64 / 1e6)));
    let steps = measured.first().map(|one| one.costs.as_slice()).unwrap_or_default();
    for (i, (name, _)) in steps.iter().enumerate() {
        let cell = |one: &Measured| {
            let cost = &one.costs[i].1;
            format!("{:.0} MiB, {:.1} s", cost.peak_bytes as f64 / f64::from(1 << 20), cost.wall)
        };
        out.push_str(&line(name, &cell));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_others_refused() {
        let parse = |line: &str| Request::parse(line.split_whitespace().map(str::to_owned));
        let request = parse("--work /w --scales 0.5,2 --chunks 10 --files 4 --limit-mib 7").unwrap();
        let sizes: Vec<(u64, u64)> =
            request.scales.iter().map(|s| request.size(*s)).map(|s| (s.chunks, s.files)).collect();
        assert_eq!(sizes, [(5, 2), (20, 8)]);
        assert_eq!(request.limit_mib, 7);
        for wrong in ["", "--work", "--work /w --chunks 0", "--work /w --scales x", "--work /w --fast"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}

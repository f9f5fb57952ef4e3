//! Backstay beside restic, rustic, Borg and bupstash: the same work, in turns, in one run.
//!
//! What it is for: figures that nobody can argue with (`docs/benchmarks.md` says how they are taken). What it may not
//! know: the inside of any of the programs; it starts them and reads what they wrote. Where data comes from and goes:
//! workloads that it makes itself; a table, JSON and a part of a document.

// Talking to the terminal is what this program does.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bucket;
mod floor;
mod race;
mod report;
mod same;
mod tool;
mod workload;

use bucket::Bucket;
use peers::document::{self, Origin, workspace};
use race::{Caches, Race, Results};
use report::Circumstances;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tool::Tool;
use workload::{Kind, Workload};

const USAGE: &str = "usage: cargo run --release -p peers -- --work DIR [options]

--work DIR         a new or empty directory for everything; it is removed at the end
--keep             keep it
--install          install the peers that are missing (apt-get, cargo)
--tools DIR        where cargo installs them; DIR/bin comes before PATH (default: target/peers)
--backstay FILE    our program (default: target/release/backstay)
--only TOOL,TOOL   only these of backstay restic rustic borg bupstash
--workloads A,B    only these of tree pages noise
--scale X          size of the workloads; 1 is 105,000 files, 4 GiB of pages, 1 GiB of noise (default)
--rounds N         how often (default 3)
--cold             drop the page cache before every command (root only)
--s3 URL           repositories lie in a bucket of this service (http://HOST:PORT; AWS_… say who asks); those who know none sit out
--latency-ms N     hold every request to the service up for so long (default 0)
--json FILE        write every sample there
--markdown FILE    replace the part between the markers in this document";

struct Request {
    work: PathBuf,
    keep: bool,
    install: bool,
    tools: PathBuf,
    backstay: PathBuf,
    only: Vec<Tool>,
    workloads: Vec<Kind>,
    scale: f64,
    rounds: usize,
    caches: Caches,
    /// Host and port.
    s3: Option<String>,
    latency: Duration,
    json: Option<PathBuf>,
    markdown: Option<PathBuf>,
}

impl Request {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Request, String> {
        let target = workspace().join("target");
        let mut request = Request {
            work: PathBuf::new(),
            keep: false,
            install: false,
            tools: target.join("peers"),
            backstay: target.join("release/backstay"),
            only: Tool::ALL.to_vec(),
            workloads: Kind::ALL.to_vec(),
            scale: 1.0,
            rounds: 3,
            caches: Caches::Warm,
            s3: None,
            latency: Duration::ZERO,
            json: None,
            markdown: None,
        };
        while let Some(option) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{option} needs a value"));
            match option.as_str() {
                "--work" => request.work = absolute(&value()?)?,
                "--keep" => request.keep = true,
                "--install" => request.install = true,
                "--tools" => request.tools = absolute(&value()?)?,
                "--backstay" => request.backstay = absolute(&value()?)?,
                "--only" => request.only = named(&value()?, &Tool::ALL, Tool::name)?,
                "--workloads" => request.workloads = named(&value()?, &Kind::ALL, Kind::name)?,
                "--scale" => request.scale = number(&value()?)?,
                "--rounds" => request.rounds = number(&value()?)? as usize,
                "--cold" => request.caches = Caches::Cold,
                "--s3" => request.s3 = Some(bucket::host_of(&value()?)?),
                "--latency-ms" => request.latency = Duration::from_millis(number(&value()?)? as u64),
                "--json" => request.json = Some(absolute(&value()?)?),
                "--markdown" => request.markdown = Some(absolute(&value()?)?),
                other => return Err(format!("there is no option {other}")),
            }
        }
        if request.work.as_os_str().is_empty() {
            return Err("where? --work DIR".to_owned());
        }
        Ok(request)
    }
}

fn absolute(path: &str) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|e| format!("{path}: {e}"))
}

fn number(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|n: &f64| *n > 0.0).ok_or_else(|| format!("{text} is no number above 0"))
}

/// Those of `all` that a list with commas names, in the order of `all`.
fn named<T: Copy>(list: &str, all: &[T], name: fn(T) -> &'static str) -> Result<Vec<T>, String> {
    if let Some(unknown) = list.split(',').find(|word| all.iter().all(|one| name(*one) != *word)) {
        return Err(format!("there is no {unknown}"));
    }
    Ok(all.iter().filter(|one| list.split(',').any(|word| word == name(**one))).copied().collect())
}

fn main() -> ExitCode {
    let request = match Request::parse(std::env::args().skip(1)) {
        Ok(request) => request,
        Err(what) => {
            eprintln!("peers: {what}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&request) {
        // A peer that fails is a note in the table. That we fail is a failure.
        Ok(ours_failed) => ExitCode::from(u8::from(ours_failed)),
        Err(what) => {
            eprintln!("peers: {what}");
            ExitCode::FAILURE
        }
    }
}

fn run(request: &Request) -> Result<bool, String> {
    let Field { entrants, versions, absent } = field(request)?;
    std::fs::create_dir_all(&request.work).map_err(|e| format!("{}: {e}", request.work.display()))?;
    let mut inside = std::fs::read_dir(&request.work).map_err(|e| format!("{}: {e}", request.work.display()))?;
    if inside.next().is_some() {
        return Err(format!("{} is not empty", request.work.display()));
    }
    let measured = measure(request, &entrants);
    if !request.keep {
        race::remove(&request.work)?;
    }
    let (workloads, results) = measured?;
    let circumstances = Circumstances {
        origin: Origin::here(&request.work),
        scale: request.scale,
        rounds: request.rounds,
        caches: request.caches,
        latency: request.s3.as_ref().map(|_| request.latency),
        versions,
        absent,
        workloads,
    };
    println!("{}", report::text(&circumstances, &results));
    if let Some(path) = &request.json {
        write(path, &format!("{:#}\n", report::json(&circumstances, &results)))?;
    }
    if let Some(path) = &request.markdown {
        let part = match (&request.s3, request.latency.is_zero()) {
            (None, _) => "peers",
            (Some(_), true) => "peers-s3",
            (Some(_), false) => "peers-s3-far",
        };
        document::replace(path, part, &report::markdown(&circumstances, &results))?;
    }
    Ok(results.failures.iter().any(|(tool, _)| *tool == Tool::Backstay))
}

/// Who takes part.
#[derive(Default)]
struct Field {
    entrants: Vec<(Tool, PathBuf)>,
    versions: Vec<(Tool, String)>,
    /// Who does not, and why.
    absent: Vec<(Tool, String)>,
}

fn field(request: &Request) -> Result<Field, String> {
    let mut field = Field::default();
    let takes_part = |tool: &Tool| request.only.contains(tool) && (request.s3.is_none() || tool.knows_buckets());
    for tool in Tool::ALL.into_iter().filter(takes_part) {
        let look = || match tool {
            Tool::Backstay => Some(request.backstay.clone()).filter(|program| program.is_file()),
            _ => tool::find(tool, &request.tools),
        };
        let mut program = look();
        let mut why = "it was not found; --install installs it".to_owned();
        if program.is_none() && request.install {
            eprintln!("installing {}", tool.name());
            match tool::install(tool, &request.tools) {
                Ok(()) => program = look(),
                Err(what) => why = what,
            }
        }
        let found = program.ok_or(why).and_then(|program| Ok((tool::version(tool, &program)?, program)));
        match found {
            Ok((version, program)) => {
                field.entrants.push((tool, program));
                field.versions.push((tool, version));
            }
            Err(why) if tool == Tool::Backstay => {
                return Err(format!("{}: {why} (cargo build --release)", request.backstay.display()));
            }
            Err(why) => {
                eprintln!("{} does not take part: {why}", tool.name());
                field.absent.push((tool, why));
            }
        }
    }
    Ok(field)
}

fn measure(request: &Request, entrants: &[(Tool, PathBuf)]) -> Result<(Vec<Workload>, Results), String> {
    let mut results = Results::default();
    let mut workloads = Vec::new();
    let bucket = request.s3.as_deref().map(|host| Bucket::start(host, request.latency)).transpose()?;
    for kind in &request.workloads {
        eprintln!("making {}", kind.name());
        let workload = Workload::make(*kind, &request.work.join(kind.name()), request.scale)?;
        let race = Race { entrants, work: &request.work, caches: request.caches, bucket: bucket.as_ref() };
        for round in 0..request.rounds {
            let tell = |line: &str| eprintln!("{}/{} {line}", round + 1, request.rounds);
            race.round(round, &workload, &mut results, &tell)?;
        }
        race.finish(&workload)?;
        workloads.push(workload);
    }
    Ok((workloads, results))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_others_refused() {
        let parse = |line: &str| Request::parse(line.split_whitespace().map(str::to_owned));
        let request = parse("--work /w --only borg,backstay --workloads noise --scale 0.5 --rounds 2 --cold").unwrap();
        assert_eq!(request.only, [Tool::Backstay, Tool::Borg]);
        assert_eq!(request.workloads, [Kind::Noise]);
        assert_eq!((request.scale, request.rounds, request.caches), (0.5, 2, Caches::Cold));
        for wrong in ["", "--work", "--work /w --scale 0", "--work /w --only tar", "--work /w --fast"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}

//! Backstay beside pgBackRest, pg_basebackup and the scripts people write: one cluster, one run, every tool in turn at every
//! step.
//!
//! What it may not know: how tools are called. Where data comes from and goes: `cluster` makes rows, `tool` command lines; what
//! they took goes into a table and a part of a document. A time counts only when the rows came back.

// Talking to the terminal is what this program does.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod cluster;
mod tool;

use cluster::{Cluster, DATABASE, PORT};
use peers::document::{self, Origin, workspace};
use peers::timed::Cost;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tool::{Calls, Step, Tool};

const USAGE: &str = "usage: cargo run --release -p postgres-race -- --work DIR [options]

Run it as a user that is not root: PostgreSQL refuses to.

--work DIR           a new or empty directory for everything; it is removed at the end
--keep               keep it
--bin DIR            programs of PostgreSQL (default: the newest in /usr/lib/postgresql)
--scale N            size of the cluster: 100 is about 2.2 GiB (default 100)
--transactions N     changes between the backups (default 80000)
--segments N         segments of log for the steps about log (default 100)
--backstay FILE      our program (default: target/release/backstay)
--pgbackrest FILE    (default: from PATH; left out where there is none)
--markdown FILE      replace the part between the markers in this document";

struct Request {
    work: PathBuf,
    keep: bool,
    bin: PathBuf,
    scale: u64,
    transactions: u64,
    segments: usize,
    backstay: PathBuf,
    pgbackrest: Option<PathBuf>,
    markdown: Option<PathBuf>,
}

impl Request {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Request, String> {
        let mut request = Request {
            work: PathBuf::new(),
            keep: false,
            bin: newest_server(),
            scale: 100,
            transactions: 80_000,
            segments: 100,
            backstay: workspace().join("target/release/backstay"),
            pgbackrest: on_path("pgbackrest"),
            markdown: None,
        };
        while let Some(option) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{option} needs a value"));
            match option.as_str() {
                "--work" => request.work = absolute(&value()?)?,
                "--keep" => request.keep = true,
                "--bin" => request.bin = absolute(&value()?)?,
                "--scale" => request.scale = number(&value()?)?,
                "--transactions" => request.transactions = number(&value()?)?,
                "--segments" => request.segments = number(&value()?)? as usize,
                "--backstay" => request.backstay = absolute(&value()?)?,
                "--pgbackrest" => request.pgbackrest = Some(absolute(&value()?)?),
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

fn number(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| format!("{text} is no number above 0"))
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

fn newest_server() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.filter_map(|dir| dir.file_name().to_str()?.parse::<u32>().ok()).max().unwrap_or_default();
    PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin"))
}

fn main() -> ExitCode {
    let request = match Request::parse(std::env::args().skip(1)) {
        Ok(request) => request,
        Err(what) => {
            eprintln!("postgres-race: {what}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match race(&request) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("postgres-race: {what}");
            ExitCode::FAILURE
        }
    }
}

/// One measured command, and the bytes that its tool has stored afterwards.
struct Sample {
    cost: Cost,
    stored: u64,
}

/// What of a sample stands in a table; none where it has no meaning for the step.
type Figure<'f> = &'f dyn Fn(Step, &Sample) -> Option<f64>;

type Results = BTreeMap<(Step, Tool), Sample>;

struct Race<'a> {
    request: &'a Request,
    calls: Calls<'a>,
    tools: Vec<Tool>,
    results: Results,
}

fn race(request: &Request) -> Result<(), String> {
    std::fs::create_dir_all(&request.work).map_err(|e| format!("{}: {e}", request.work.display()))?;
    if std::fs::read_dir(&request.work).map_err(|e| e.to_string())?.next().is_some() {
        return Err(format!("{} is not empty", request.work.display()));
    }
    let cluster = Cluster { bin: request.bin.clone(), work: request.work.clone() };
    let calls = Calls { cluster: &cluster, backstay: &request.backstay, pgbackrest: request.pgbackrest.clone() };
    let takes_part = |tool: &Tool| *tool != Tool::PgBackRest || request.pgbackrest.is_some();
    let tools = Tool::ALL.into_iter().filter(takes_part).collect();
    let mut race = Race { request, calls, tools, results: Results::new() };
    let done = race.run(&cluster);
    // Whatever happened: nothing of it goes on.
    if done.is_err() {
        cluster.stop(&cluster.data()).ok();
    }
    done?;
    let report = race.report()?;
    println!("{report}");
    if let Some(path) = &request.markdown {
        document::replace(path, "postgres", &format!("```\n{report}```\n"))?;
    }
    if !request.keep {
        std::fs::remove_dir_all(&request.work).map_err(|e| format!("{}: {e}", request.work.display()))?;
    }
    Ok(())
}

impl Race<'_> {
    fn run(&mut self, cluster: &Cluster) -> Result<(), String> {
        let make = |dir: PathBuf| std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()));
        make(self.calls.collected())?;
        self.calls.archive_for("nobody")?;
        self.calls.prepare()?;
        eprintln!("making the cluster");
        cluster.make(self.request.scale, &self.calls.archiver())?;
        if self.calls.pgbackrest.is_some() {
            self.calls.theirs("pgbackrest.conf").arg("stanza-create").output()?;
        }
        self.each(Step::Full)?;
        self.calls.archive_for("collect")?;
        cluster.change(self.request.transactions)?;
        self.enough_log(cluster)?;
        let rows = cluster.rows(PORT, DATABASE)?;
        self.each(Step::Changed)?;
        self.each(Step::Unchanged)?;
        self.each(Step::Restore)?;
        self.each(Step::Delta)?;
        for tool in self.tools.clone() {
            let target = self.calls.target(tool);
            if self.results.contains_key(&(Step::Restore, tool)) && target.exists() {
                // Its configuration would archive, and listen where the cluster listens.
                cluster::append(&target.join("postgresql.auto.conf"), "archive_mode = off\n")?;
                cluster.comes_back(&target, &rows).map_err(|e| format!("{}: {e}", tool.name()))?;
                std::fs::remove_dir_all(&target).map_err(|e| e.to_string())?;
            }
        }
        self.each(Step::Table)?;
        for step in [Step::Push, Step::Burst, Step::Get] {
            self.each(step)?;
        }
        cluster.stop(&cluster.data())
    }

    /// Segments for the steps about log: the newest, as many as were asked for.
    fn enough_log(&self, cluster: &Cluster) -> Result<(), String> {
        let collected = || -> Result<Vec<PathBuf>, String> {
            let files = std::fs::read_dir(self.calls.collected()).map_err(|e| e.to_string())?;
            let mut files: Vec<PathBuf> = files.filter_map(|file| Some(file.ok()?.path())).collect();
            files.sort();
            Ok(files)
        };
        while collected()?.len() < self.request.segments {
            cluster.change(10_000)?;
        }
        cluster.sql("select pg_switch_wal()")?;
        // What the server is about to archive yet comes before it is turned to somebody else.
        std::thread::sleep(std::time::Duration::from_secs(5));
        let files = collected()?;
        for file in &files[..files.len() - self.request.segments] {
            std::fs::remove_file(file).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// One step by every tool that has it, another one first at every step.
    fn each(&mut self, step: Step) -> Result<(), String> {
        let mut tools = self.tools.clone();
        let count = tools.len();
        tools.rotate_left(step as usize % count);
        for tool in tools {
            let Some(job) = self.calls.job(tool, step) else { continue };
            let store = match step {
                Step::Push | Step::Burst | Step::Get => self.request.work.join(format!("log-{}", tool.name())),
                _ => self.calls.store(tool),
            };
            match step {
                Step::Push | Step::Burst => self.calls.log_waits(tool, step)?,
                Step::Full | Step::Changed | Step::Unchanged => self.calls.archive_for(tool.name())?,
                _ => {}
            }
            settle();
            let cost = job.timed(&self.request.work).map_err(|e| format!("{}, {}: {e}", tool.name(), step.name()))?;
            eprintln!("{}: {} {:.1} s", step.name(), tool.name(), cost.wall);
            self.results.insert((step, tool), Sample { cost, stored: bytes_in(&store)? });
            if step == Step::Restore && matches!(tool, Tool::DumpGzip | Tool::DumpGpg) {
                self.loaded()?;
            }
        }
        Ok(())
    }

    /// That the database a dump was loaded into has the rows of the one it was taken of.
    fn loaded(&self) -> Result<(), String> {
        let cluster = self.calls.cluster;
        if cluster.rows(PORT, "again")? != cluster.rows(PORT, DATABASE)? {
            return Err("the rows that were loaded are others".to_owned());
        }
        cluster.program("dropdb").arg("again").output().map(drop)
    }

    fn report(&self) -> Result<String, String> {
        let mut text = String::new();
        let segments = self.request.segments as f64;
        let rate = |step: Step| matches!(step, Step::Push | Step::Burst | Step::Get);
        let parts: [(&str, Figure<'_>, bool); 5] = [
            ("Wall time, seconds", &|step, s| (!rate(step)).then_some(s.cost.wall), false),
            ("Log, segments a second", &|step, s| rate(step).then_some(segments / s.cost.wall), true),
            ("CPU time of the command and what it waits for, seconds", &|_, s| Some(s.cost.cpu), false),
            (
                "Peak memory of the largest process, MiB",
                &|_, s| Some(s.cost.peak_bytes as f64 / f64::from(1 << 20)),
                false,
            ),
            (
                "Stored afterwards, MB",
                &|step, s| {
                    (!matches!(step, Step::Restore | Step::Delta | Step::Table | Step::Get))
                        .then_some(s.stored as f64 / 1e6)
                },
                false,
            ),
        ];
        for (title, of, more_is_better) in parts {
            text += &format!("{title}\n{:34}", "");
            for tool in &self.tools {
                text += &format!("{:>15}", tool.name());
            }
            text += "  best peer ÷ ours\n";
            for step in Step::ALL {
                let found = |tool: &Tool| self.results.get(&(step, *tool)).and_then(|sample| of(step, sample));
                let Some(ours) = found(&Tool::Backstay) else { continue };
                text += &format!("{:34}", step.name());
                for tool in &self.tools {
                    text += &match found(tool) {
                        Some(value) => format!("{value:>15.2}"),
                        None => format!("{:>15}", "-"),
                    };
                }
                let peers = self.tools.iter().filter(|tool| **tool != Tool::Backstay).filter_map(found);
                let best = peers.reduce(if more_is_better { f64::max } else { f64::min });
                let ratio = best.map(|best| if more_is_better { ours / best } else { best / ours });
                text += &format!("{:>18}\n", ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")));
            }
            text.push('\n');
        }
        let version = |program: &Path, word: &str| {
            peers::timed::Job::new(program).arg(word).output().map(|text| text.trim().to_owned()).unwrap_or_default()
        };
        let Origin { date, commit, machine } = Origin::here(&self.request.work);
        let others = self.results.values().map(|s| s.cost.others / s.cost.wall.max(0.01)).fold(0.0, f64::max);
        text += &format!("{date}, commit {commit}, scale {}, one round; page cache warm\n", self.request.scale);
        text += &format!("machine: {machine}\n");
        text += &format!("{}\n", version(&self.request.bin.join("postgres"), "--version"));
        if let Some(program) = &self.request.pgbackrest {
            text += &format!("{}: zstd 3, AES-256-CBC, two processes, bundles\n", version(program, "version"));
        }
        text += &format!(
            "others, the server itself and what tools leave running among them, took at most {others:.2} processors during a command\n"
        );
        Ok(text)
    }
}

/// What was written before is no part of the next measurement.
fn settle() {
    // Best effort: whoever has no `sync` measures it.
    std::process::Command::new("sync").status().ok();
}

fn bytes_in(dir: &Path) -> Result<u64, String> {
    let mut bytes = 0;
    let Ok(files) = std::fs::read_dir(dir) else { return Ok(0) };
    for file in files {
        let file = file.map_err(|e| format!("{}: {e}", dir.display()))?;
        let meta = file.metadata().map_err(|e| format!("{}: {e}", file.path().display()))?;
        bytes += if meta.is_dir() { bytes_in(&file.path())? } else { meta.len() };
    }
    Ok(bytes)
}

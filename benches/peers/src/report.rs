//! What the race showed: a table for the terminal, JSON, a part of a Markdown document.
//!
//! What it may not know: how anything was measured. Where data comes from and goes: results in, text out. Of several
//! rounds the one with the shortest wall time counts: on a machine that others use too, it is the least disturbed one.

use crate::bucket::KINDS;
use crate::floor::{Against, FLOORS, MEMORY_MIB_MAX, Measure};
use crate::race::{Caches, Column, Results, Sample, Step, steps};
use crate::tool::Tool;
use crate::workload::{Kind, Workload};
use peers::document::Origin;
use std::time::Duration;

/// What everybody should know beside the figures.
pub struct Circumstances {
    /// When and what was measured, and on what machine.
    pub origin: Origin,
    /// Size against the defaults.
    pub scale: f64,
    /// How often everything was run.
    pub rounds: usize,
    /// The state of the page cache.
    pub caches: Caches,
    /// How long each request to a service was held up, where repositories lay in a bucket.
    pub latency: Option<Duration>,
    /// Who took part, with the version.
    pub versions: Vec<(Tool, String)>,
    /// Who did not, and why.
    pub absent: Vec<(Tool, String)>,
    /// What was backed up.
    pub workloads: Vec<Workload>,
}

impl Measure {
    const ALL: [Measure; 4] = [Measure::Wall, Measure::Cpu, Measure::Memory, Measure::Stored];

    fn title(self) -> &'static str {
        match self {
            Measure::Wall => "Wall time, seconds",
            Measure::Cpu => "CPU time, user and system, of all processes, seconds",
            Measure::Memory => "Peak memory of the largest process, MiB",
            Measure::Stored => "Stored, MB",
        }
    }

    fn of(self, sample: &Sample) -> Option<f64> {
        match self {
            Measure::Wall => Some(sample.cost.wall),
            Measure::Cpu => Some(sample.cost.cpu),
            Measure::Memory => Some(sample.cost.peak_bytes as f64 / f64::from(1 << 20)),
            Measure::Stored => sample.stored.map(|bytes| bytes as f64 / 1e6),
        }
    }

    fn text(self, value: f64) -> String {
        match self {
            Measure::Memory => format!("{value:.0}"),
            _ if value < 10.0 => format!("{value:.2}"),
            _ => format!("{value:.1}"),
        }
    }
}

/// What a line of the table is called.
fn title(column: Column, measure: Measure) -> String {
    let what = match column.kind {
        Kind::Tree => "small files",
        Kind::Pages => "database pages",
        Kind::Noise => "incompressible",
    };
    let step = match column.step {
        Step::First => "first backup",
        Step::Unchanged => "unchanged",
        Step::Changed => "1 % changed",
        Step::Restore => "restore",
        Step::Verify => "full verify",
        Step::Prune => "prune after forget",
    };
    match column.step.stored().filter(|_| measure == Measure::Stored) {
        Some(stored) => format!("{what}: {step}, {stored}"),
        None => format!("{what}: {step}"),
    }
}

/// The sample that counts.
fn best(samples: &[Sample]) -> Option<&Sample> {
    samples.iter().min_by(|a, b| a.cost.wall.total_cmp(&b.cost.wall))
}

/// One table: the names of its columns, and its lines.
struct Table {
    title: &'static str,
    head: Vec<String>,
    lines: Vec<Vec<String>>,
}

fn tables(circumstances: &Circumstances, results: &Results) -> Vec<Table> {
    let tools: Vec<Tool> = circumstances.versions.iter().map(|(tool, _)| *tool).collect();
    let mut all: Vec<Table> = Measure::ALL
        .iter()
        .map(|measure| {
            let mut head = vec![String::new()];
            head.extend(tools.iter().map(|tool| tool.name().to_owned()));
            head.push("best peer ÷ ours".to_owned());
            let columns = circumstances.workloads.iter().flat_map(|workload| {
                steps(workload.kind).iter().map(|step| Column { kind: workload.kind, step: *step })
            });
            let lines = columns
                .filter(|column| *measure != Measure::Stored || column.step.stored().is_some())
                .map(|column| line(column, *measure, &tools, results))
                .collect();
            Table { title: measure.title(), head, lines }
        })
        .collect();
    // The floors are about directories.
    if circumstances.latency.is_some() {
        all.push(requests(circumstances, results, &tools));
    } else {
        let head = ["", "floor", "measured", ""].map(str::to_owned).to_vec();
        all.push(Table { title: "Floors", head, lines: floors(results) });
    }
    all
}

/// What was asked of the service, by kind.
fn requests(circumstances: &Circumstances, results: &Results, tools: &[Tool]) -> Table {
    let mut head = vec![String::new()];
    head.extend(tools.iter().map(|tool| tool.name().to_owned()));
    let columns = circumstances
        .workloads
        .iter()
        .flat_map(|workload| steps(workload.kind).iter().map(|step| Column { kind: workload.kind, step: *step }));
    let lines = columns.map(|column| {
        let mut cells = vec![title(column, Measure::Wall)];
        cells.extend(tools.iter().map(|tool| {
            let samples = results.samples.get(&(column, *tool)).map(Vec::as_slice).unwrap_or_default();
            let Some(sample) = best(samples) else { return "–".to_owned() };
            let all: u64 = sample.requests.values().sum();
            let kinds = KINDS.iter().filter_map(|kind| Some(format!("{} {kind}", sample.requests.get(kind)?)));
            format!("{all}: {}", kinds.collect::<Vec<_>>().join(", "))
        }));
        cells
    });
    Table { title: "Requests", head, lines: lines.collect() }
}

/// What a tool needed, when that counts.
fn figure(results: &Results, column: Column, measure: Measure, tool: Tool) -> Option<f64> {
    let samples = results.samples.get(&(column, tool)).map(Vec::as_slice).unwrap_or_default();
    best(samples).and_then(|sample| measure.of(sample))
}

fn line(column: Column, measure: Measure, tools: &[Tool], results: &Results) -> Vec<String> {
    let value = |tool: Tool| figure(results, column, measure, tool);
    let mut cells = vec![title(column, measure)];
    cells.extend(tools.iter().map(|tool| value(*tool).map_or_else(|| "–".to_owned(), |value| measure.text(value))));
    let peers = tools.iter().filter(|tool| **tool != Tool::Backstay).filter_map(|tool| value(*tool));
    let ratio = peers.min_by(f64::total_cmp).zip(value(Tool::Backstay)).filter(|(_, ours)| *ours > 0.0);
    cells.push(ratio.map_or_else(|| "–".to_owned(), |(peer, ours)| format!("{:.2}", peer / ours)));
    cells
}

/// What must be reached, and whether it is: one line for each floor of what was measured.
fn floors(results: &Results) -> Vec<Vec<String>> {
    let mut lines = Vec::new();
    for floor in FLOORS {
        let ratio = floor.ratio(&|tool| figure(results, floor.column, floor.measure, tool));
        let Some(ratio) = ratio else { continue };
        let who = match floor.against {
            Against::Best => "the best peer",
            Against::Peer(tool) => tool.name(),
        };
        let what = match floor.measure {
            Measure::Wall => "time",
            Measure::Cpu => "CPU time",
            Measure::Memory => "memory",
            Measure::Stored => "bytes",
        };
        let verdict = if ratio >= floor.factor { "met" } else { "missed" };
        lines.push(vec![
            format!("{}: {what} of {who} ÷ ours", title(floor.column, Measure::Wall)),
            format!("{:.2}", floor.factor),
            format!("{ratio:.2}"),
            verdict.to_owned(),
        ]);
    }
    let ours = results.samples.iter().filter(|((_, tool), _)| *tool == Tool::Backstay);
    let peaks = ours.flat_map(|(_, samples)| samples).filter_map(|sample| Measure::Memory.of(sample));
    if let Some(peak) = peaks.max_by(f64::total_cmp) {
        let verdict = if peak <= MEMORY_MIB_MAX { "met" } else { "missed" };
        let limit = format!("{MEMORY_MIB_MAX:.0}");
        lines.push(vec![
            "peak memory of any step, MiB, at most".to_owned(),
            limit,
            format!("{peak:.0}"),
            verdict.to_owned(),
        ]);
    }
    lines
}

/// For people in front of a terminal.
pub fn text(circumstances: &Circumstances, results: &Results) -> String {
    let mut out = String::new();
    for table in tables(circumstances, results) {
        let widths: Vec<usize> = (0..table.head.len())
            .map(|i| table.lines.iter().chain([&table.head]).map(|cells| cells[i].chars().count()).max().unwrap_or(0))
            .collect();
        out.push_str(&format!("\n{}\n", table.title));
        for cells in [&table.head].into_iter().chain(&table.lines) {
            let padded = cells.iter().zip(&widths).enumerate().map(|(i, (cell, width))| match i {
                0 => format!("{cell:width$}"),
                _ => format!("{cell:>width$}"),
            });
            out.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
            out.push('\n');
        }
    }
    notes(circumstances, results).iter().for_each(|note| out.push_str(&format!("\n{note}")));
    out.push('\n');
    out
}

/// For `docs/benchmarks.md`.
pub fn markdown(circumstances: &Circumstances, results: &Results) -> String {
    let mut out = String::new();
    notes(circumstances, results).iter().for_each(|note| out.push_str(&format!("- {note}\n")));
    for table in tables(circumstances, results) {
        out.push_str(&format!("\n**{}**\n\n", table.title));
        let row = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        out.push_str(&row(&table.head));
        out.push_str(&format!("|---|{}\n", "--:|".repeat(table.head.len() - 1)));
        table.lines.iter().for_each(|cells| out.push_str(&row(cells)));
    }
    out
}

/// What has to be known to read the figures, one sentence each.
fn notes(circumstances: &Circumstances, results: &Results) -> Vec<String> {
    let Circumstances { origin, scale, rounds, caches, latency, versions, absent, workloads } = circumstances;
    let Origin { date, commit, machine } = origin;
    let caches = match caches {
        Caches::Warm => "warm: what a command reads was read just before",
        Caches::Cold => "cold: dropped before every command",
    };
    let mut notes = vec![
        format!("{date}, commit {commit}, scale {scale}, best of {rounds} round(s); page cache {caches}"),
        format!("machine: {machine}"),
    ];
    for workload in workloads {
        let megabytes = workload.bytes as f64 / 1e6;
        notes.push(format!("{}: {} file(s), {megabytes:.1} MB", workload.kind.name(), workload.files));
    }
    if let Some(latency) = latency {
        let way = match latency.as_millis() {
            0 => "on loopback, without added latency".to_owned(),
            n => format!("every request held up for {n} ms"),
        };
        notes.push(format!("repositories in a bucket: {way}; packs as large as each tool likes"));
    }
    for (tool, version) in versions {
        notes.push(format!("{version}: {}", tool.settings()));
    }
    for (tool, why) in absent {
        notes.push(format!("{} did not take part: {why}", tool.name()));
    }
    let disturbed = results.samples.values().filter_map(|samples| best(samples));
    let worst = disturbed.map(|sample| sample.cost.others / sample.cost.wall.max(0.01)).fold(0.0, f64::max);
    notes.push(format!("others took at most {worst:.2} processors during a command that counts"));
    for (tool, what) in &results.failures {
        notes.push(format!("{} does not count: {what}", tool.name()));
    }
    notes
}

/// For programs: every sample of every round.
pub fn json(circumstances: &Circumstances, results: &Results) -> serde_json::Value {
    let samples = results.samples.iter().flat_map(|((column, tool), samples)| {
        samples.iter().enumerate().map(move |(round, sample)| {
            serde_json::json!({
                "workload": column.kind.name(),
                "step": column.step.name(),
                "tool": tool.name(),
                "round": round,
                "wall_secs": sample.cost.wall,
                "cpu_secs": sample.cost.cpu,
                "peak_bytes": sample.cost.peak_bytes,
                "others_cpu_secs": sample.cost.others,
                "stored_bytes": sample.stored,
                "requests": sample.requests,
            })
        })
    });
    let named = |pairs: &[(Tool, String)]| -> Vec<serde_json::Value> {
        pairs.iter().map(|(tool, what)| serde_json::json!({"tool": tool.name(), "what": what})).collect()
    };
    serde_json::json!({
        "date": circumstances.origin.date,
        "commit": circumstances.origin.commit,
        "machine": circumstances.origin.machine,
        "scale": circumstances.scale,
        "rounds": circumstances.rounds,
        "latency_ms": circumstances.latency.map(|latency| latency.as_millis() as u64),
        "caches": format!("{:?}", circumstances.caches).to_lowercase(),
        "versions": named(&circumstances.versions),
        "absent": named(&circumstances.absent),
        "failures": named(&results.failures),
        "samples": samples.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::Requests;
    use peers::timed::Cost;

    fn sample(wall: f64, stored: u64) -> Sample {
        Sample {
            cost: Cost { wall, cpu: wall, peak_bytes: 1 << 20, others: 0.0 },
            stored: Some(stored),
            requests: Requests::from([("PUT", 3), ("GET", 4)]),
        }
    }

    fn race() -> (Circumstances, Results) {
        let versions = vec![(Tool::Backstay, "backstay 1".into()), (Tool::Restic, "restic 2".into())];
        let circumstances = Circumstances {
            origin: Origin { date: "2025-01-01".into(), commit: "abc".into(), machine: "one".into() },
            scale: 1.0,
            rounds: 2,
            caches: Caches::Warm,
            latency: None,
            versions,
            absent: vec![(Tool::Borg, "not found".into())],
            workloads: vec![Workload { kind: Kind::Noise, dir: "/".into(), files: 1, bytes: 1_000_000 }],
        };
        let mut results = Results::default();
        let column = Column { kind: Kind::Noise, step: Step::First };
        results.samples.insert((column, Tool::Backstay), vec![sample(3.0, 2_000_000), sample(2.0, 2_000_000)]);
        results.samples.insert((column, Tool::Restic), vec![sample(5.0, 3_000_000)]);
        (circumstances, results)
    }

    #[test]
    fn the_best_round_stands_beside_the_best_peer() {
        let (circumstances, results) = race();
        let text = markdown(&circumstances, &results);
        assert!(text.contains("| incompressible: first backup | 2.00 | 5.00 | 2.50 |"), "{text}");
        assert!(text.contains("| incompressible: first backup, in the repository | 2.00 | 3.00 | 1.50 |"), "{text}");
        assert!(text.contains("borg did not take part: not found"), "{text}");
        assert!(
            text.contains("| incompressible: first backup: time of the best peer ÷ ours | 2.00 | 2.50 | met |"),
            "{text}"
        );
        assert!(text.contains("| peak memory of any step, MiB, at most | 160 | 1 | met |"), "{text}");
    }

    #[test]
    fn who_failed_has_no_figure() {
        let (circumstances, mut results) = race();
        results.samples.remove(&(Column { kind: Kind::Noise, step: Step::First }, Tool::Restic));
        results.failures.push((Tool::Restic, "restored wrongly".into()));
        let text = markdown(&circumstances, &results);
        assert!(text.contains("| incompressible: first backup | 2.00 | – | – |"), "{text}");
        assert!(text.contains("restic does not count: restored wrongly"), "{text}");
    }

    #[test]
    fn of_a_bucket_requests_are_told_by_kind_and_floors_are_not() {
        let (mut circumstances, results) = race();
        circumstances.latency = Some(Duration::from_millis(20));
        let text = markdown(&circumstances, &results);
        assert!(text.contains("| incompressible: first backup | 7: 4 GET, 3 PUT | 7: 4 GET, 3 PUT |"), "{text}");
        assert!(text.contains("every request held up for 20 ms") && !text.contains("Floors"), "{text}");
    }
}

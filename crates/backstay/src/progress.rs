//! How far long work is: one line on a terminal, a line per minute without one, status lines for programs.
//!
//! What it is for: [`Progress`], fed from any thread.
//! What it may not know: what the work is.
//! Where data comes from and goes: counters from verbs; standard error for people, standard output for programs.

use crate::render::{Render, bytes, clean, clock, count, is_terminal};
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Whether to show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Where somebody may look at it.
    Auto,
    /// Never.
    Never,
}

/// The counters of long work. Dropped, its line is removed.
pub struct Progress {
    counters: Arc<Counters>,
    ticker: Option<JoinHandle<()>>,
    render: Render,
}

/// What is counted; may be shared with the threads that do the work.
#[derive(Default)]
pub struct Counters {
    /// Files that are done.
    pub files: AtomicU64,
    /// Bytes that are done.
    pub bytes: AtomicU64,
    /// Files there are; 0 while that is unknown.
    pub files_total: AtomicU64,
    /// Bytes there are; 0 while that is unknown.
    pub bytes_total: AtomicU64,
    name: Mutex<String>,
    done: AtomicBool,
}

impl Counters {
    /// What is being worked on: a path, a phase. Shown as it is, but for control characters.
    pub fn name(&self, name: &str) {
        let mut kept = self.name.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clear();
        kept.push_str(name);
    }

    /// How far the work is.
    pub fn set(&self, files: u64, bytes: u64) {
        self.files.store(files, Relaxed);
        self.bytes.store(bytes, Relaxed);
    }

    /// How much there is.
    pub fn set_total(&self, files: u64, bytes: u64) {
        self.files_total.store(files, Relaxed);
        self.bytes_total.store(bytes, Relaxed);
    }
}

enum Sink {
    Line(indicatif::ProgressBar),
    Minutes,
    Status,
}

impl Progress {
    /// Starts to show the progress of work. `verb` names it in lines that stand alone: `backup`.
    pub fn start(render: &Render, show: Show, verb: &'static str) -> Progress {
        let counters = Arc::new(Counters::default());
        let sink = match show {
            Show::Never => None,
            Show::Auto if render.is_quiet() => None,
            Show::Auto if render.is_json() => Some(Sink::Status),
            Show::Auto if is_terminal() => {
                let bar = indicatif::ProgressBar::new_spinner();
                bar.set_style(indicatif::ProgressStyle::with_template("{wide_msg}").expect("a good template"));
                render.set_bar(Some(bar.clone()));
                Some(Sink::Line(bar))
            }
            Show::Auto => Some(Sink::Minutes),
        };
        let ticker = sink.and_then(|sink| {
            let (shared, render) = (Arc::clone(&counters), render.clone());
            let tick = move || run(&shared, &render, &sink, verb);
            // Without a thread for it there is no progress to see, and nothing else is lost.
            std::thread::Builder::new().name("progress".into()).spawn(tick).ok()
        });
        Progress { counters, ticker, render: render.clone() }
    }

    /// The counters, for the threads that do the work.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Removes the line.
    pub fn finish(self) {}
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.counters.done.store(true, Relaxed);
        if let Some(ticker) = self.ticker.take() {
            ticker.thread().unpark();
            drop(ticker.join());
        }
        self.render.set_bar(None);
    }
}

/// Redraws per second that `BACKSTAY_PROGRESS_FPS` asks for, or the usual number.
fn every(usual: f64) -> Duration {
    let asked = std::env::var("BACKSTAY_PROGRESS_FPS").ok().and_then(|fps| fps.trim().parse::<f64>().ok());
    let fps = asked.filter(|fps| fps.is_finite() && *fps > 0.0).unwrap_or(usual);
    Duration::from_secs_f64(1.0 / fps.clamp(0.001, 60.0))
}

fn run(counters: &Counters, render: &Render, sink: &Sink, verb: &str) {
    let start = Instant::now();
    let interval = match sink {
        Sink::Line(_) => every(5.0),
        Sink::Minutes => Duration::from_secs(60),
        Sink::Status => every(1.0),
    };
    let mut next = start + interval;
    let mut speed = Speed { at: start, bytes: 0, rate: 0.0 };
    while !counters.done.load(Relaxed) {
        let wait = next.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            std::thread::park_timeout(wait);
            continue;
        }
        next = Instant::now() + interval;
        let rate = speed.at(Instant::now(), counters.bytes.load(Relaxed));
        let elapsed = start.elapsed();
        match sink {
            Sink::Line(bar) => {
                bar.set_message(line(counters, elapsed, rate));
            }
            Sink::Minutes => render.complain(&format!("{verb}: {}", line(counters, elapsed, rate))),
            Sink::Status => render.event("status", &status(counters, elapsed, rate)),
        }
    }
    if let Sink::Line(bar) = sink {
        bar.finish_and_clear();
    }
}

/// Bytes per second, smoothed over some ten seconds.
struct Speed {
    at: Instant,
    bytes: u64,
    rate: f64,
}

impl Speed {
    fn at(&mut self, now: Instant, bytes: u64) -> f64 {
        let seconds = now.duration_since(self.at).as_secs_f64();
        if seconds > 0.0 {
            let current = bytes.saturating_sub(self.bytes) as f64 / seconds;
            let weight = if self.rate == 0.0 { 1.0 } else { 1.0 - (-seconds / 10.0).exp() };
            self.rate += (current - self.rate) * weight;
        }
        (self.at, self.bytes) = (now, bytes);
        self.rate
    }
}

struct Seen {
    files: u64,
    done: u64,
    total: Option<u64>,
    left: Option<f64>,
    name: String,
}

fn seen(counters: &Counters, rate: f64) -> Seen {
    let done = counters.bytes.load(Relaxed);
    let total = Some(counters.bytes_total.load(Relaxed)).filter(|total| *total > 0).map(|total| total.max(done));
    let left = total.filter(|_| rate > 1.0).map(|total| (total - done) as f64 / rate);
    let name = clean(&counters.name.lock().unwrap_or_else(PoisonError::into_inner));
    Seen { files: counters.files.load(Relaxed), done, total, left, name }
}

/// `[12:04] 43.1%  18.2 GiB/42.0 GiB  212.0 MiB/s  files 81k  ETA 01:52  messages.dat`
fn line(counters: &Counters, elapsed: Duration, rate: f64) -> String {
    let seen = seen(counters, rate);
    let mut text = format!("[{}] ", clock(elapsed.as_secs()));
    match seen.total {
        Some(total) => {
            let percent = seen.done as f64 * 100.0 / total as f64;
            text.push_str(&format!("{percent:.1}%  {}/{}", bytes(seen.done), bytes(total)));
        }
        None => text.push_str(&bytes(seen.done)),
    }
    text.push_str(&format!("  {}/s  files {}", bytes(rate as u64), count(seen.files)));
    if let Some(left) = seen.left {
        text.push_str(&format!("  ETA {}", clock(left as u64)));
    }
    if !seen.name.is_empty() {
        text.push_str("  ");
        text.push_str(&seen.name);
    }
    text
}

fn status(counters: &Counters, elapsed: Duration, rate: f64) -> serde_json::Value {
    let seen = seen(counters, rate);
    let files_total = Some(counters.files_total.load(Relaxed)).filter(|total| *total > 0);
    json!({
        "seconds_elapsed": elapsed.as_secs_f64(),
        "seconds_remaining": seen.left,
        "percent_done": seen.total.map(|total| seen.done as f64 / total as f64),
        "files_done": seen.files,
        "total_files": files_total,
        "bytes_done": seen.done,
        "total_bytes": seen.total,
        "bytes_per_second": rate,
        "current": seen.name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_reads_as_documented() {
        let counters = Counters::default();
        counters.set_total(100_000, 42 << 30);
        counters.set(81_000, 21 << 30);
        counters.name("messages\u{1b}.dat");
        let line = line(&counters, Duration::from_secs(724), 200.0 * 1_048_576.0);
        assert_eq!(line, "[12:04] 50.0%  21.0 GiB/42.0 GiB  200.0 MiB/s  files 81k  ETA 01:47  messages\\u{1b}.dat");
    }
}

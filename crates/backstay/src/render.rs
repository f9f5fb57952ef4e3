//! What people and programs read: text, JSON, warnings, errors, tables.
//!
//! What it is for: the only place that writes to standard output and standard error, together with `progress`.
//! What it may not know: how anything is done.
//! Where data comes from and goes: verbs hand over values; a reader gets lines without control characters.

use ops::Failure;
use repo::percent_path;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::fmt::{Display, Write as _};
use std::io::{BufWriter, ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The version of every JSON document and line.
pub const SCHEMA_VERSION: u32 = 1;

/// For whom to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// People.
    Text,
    /// Programs.
    Json,
}

/// Writes what verbs have to say. Cloning shares it; it may be used by several threads.
#[derive(Clone)]
pub struct Render {
    inner: Arc<Inner>,
}

struct Inner {
    form: Form,
    quiet: bool,
    verbose: u8,
    out: Mutex<BufWriter<std::io::Stdout>>,
    broken: AtomicBool,
    failed: Mutex<Option<std::io::Error>>,
    bar: Mutex<Option<indicatif::ProgressBar>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Render {
    /// A renderer. `verbose` counts how often `-v` was given.
    pub fn new(form: Form, quiet: bool, verbose: u8) -> Render {
        let out = Mutex::new(BufWriter::with_capacity(64 << 10, std::io::stdout()));
        let inner = Inner {
            form,
            quiet,
            verbose,
            out,
            broken: AtomicBool::new(false),
            failed: Mutex::new(None),
            bar: Mutex::new(None),
        };
        Render { inner: Arc::new(inner) }
    }

    /// Whether programs read it.
    pub fn is_json(&self) -> bool {
        self.inner.form == Form::Json
    }

    /// Whether only errors are wanted.
    pub fn is_quiet(&self) -> bool {
        self.inner.quiet
    }

    /// How often `-v` was given.
    pub fn verbose(&self) -> u8 {
        self.inner.verbose
    }

    /// Whether nobody reads standard output any more: long listings may stop.
    pub fn is_broken(&self) -> bool {
        self.inner.broken.load(Ordering::Relaxed)
    }

    /// Writes bytes as they are to standard output. `BrokenPipe` when nobody reads them any more.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn raw(&self, bytes: &[u8]) -> std::io::Result<()> {
        let result = lock(&self.inner.out).write_all(bytes);
        if let Err(e) = &result
            && e.kind() == ErrorKind::BrokenPipe
        {
            self.inner.broken.store(true, Ordering::Relaxed);
        }
        result
    }

    fn put(&self, text: &str, flush: bool) {
        let result = {
            let mut out = lock(&self.inner.out);
            out.write_all(text.as_bytes()).and_then(|()| if flush { out.flush() } else { Ok(()) })
        };
        self.note(result);
    }

    fn note(&self, result: std::io::Result<()>) {
        match result {
            Err(e) if e.kind() == ErrorKind::BrokenPipe => self.inner.broken.store(true, Ordering::Relaxed),
            Err(e) => {
                lock(&self.inner.failed).get_or_insert(e);
            }
            Ok(()) => {}
        }
    }

    /// Hands on everything that was written.
    ///
    /// # Errors
    /// When standard output could not take something: a full disk. That nobody reads any more is no error.
    pub fn finish(&self) -> Result<(), Failure> {
        self.flush();
        match lock(&self.inner.failed).take() {
            Some(e) => Err(Failure::new(ops::Exit::Failed, "output", format!("cannot write to standard output: {e}"))),
            None => Ok(()),
        }
    }

    /// Hands on what was written, so that a person sees it now.
    pub fn flush(&self) {
        let flushed = lock(&self.inner.out).flush();
        self.note(flushed);
    }

    /// One line of an answer for people. The text must be free of control characters: see [`clean`] and [`shown`].
    pub fn line(&self, text: impl Display) {
        if !self.is_json() {
            self.put(&format!("{text}\n"), false);
        }
    }

    /// One line that tells people how it went; nothing with `--quiet`.
    pub fn say(&self, text: impl Display) {
        if !self.inner.quiet {
            self.line(text);
        }
    }

    /// The one JSON document that answers a query; nothing where people read.
    pub fn document(&self, document: &impl Serialize) {
        if self.is_json() {
            self.json(document);
        }
    }

    /// A JSON line of long work, with its `message_type`: `status`, `item`, `summary`; nothing where people read. A
    /// `summary` gets its `schema_version`.
    pub fn event(&self, message_type: &str, fields: &impl Serialize) {
        if self.is_json() {
            self.json(&typed(message_type, fields));
        }
    }

    fn json(&self, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(text) => self.put(&format!("{text}\n"), true),
            Err(e) => self.warning(format!("cannot write JSON: {e}")),
        }
    }

    /// A warning, on standard error.
    pub fn warning(&self, text: impl Display) {
        let text = clean(&text.to_string());
        match self.inner.form {
            Form::Text => self.complain(&format!("warning: {text}")),
            Form::Json => self.complain(&typed("warning", &json!({"message": text})).to_string()),
        }
    }

    /// Something that could not be done about one path, on standard error, while the work goes on.
    pub fn trouble(&self, path: &[u8], what: &str) {
        let what = clean(what);
        match self.inner.form {
            Form::Text if path.is_empty() => self.complain(&format!("error: {what}")),
            Form::Text => self.complain(&format!("error: {}: {what}", shown(path))),
            Form::Json => {
                let mut fields = json_path(path);
                fields.insert("message".into(), what.into());
                self.complain(&typed("error", &fields).to_string());
            }
        }
    }

    /// Why the program ends: on standard error as text and, with `--json`, as a line of JSON too.
    pub fn failure(&self, failure: &Failure) {
        self.complain(&format!("error: {}", clean(&failure.what)));
        if let Some(help) = &failure.help {
            self.complain(&format!("help: {}", clean(help)));
        }
        if self.is_json() {
            let fields = json!({
                "code": failure.code,
                "exit_code": failure.exit.code(),
                "message": failure.what,
                "help": failure.help,
            });
            self.complain(&typed("exit_error", &fields).to_string());
        }
    }

    /// A line on standard error that must not tear the progress line. That standard error is closed is no reason to fail.
    pub(crate) fn complain(&self, line: &str) {
        let write = || drop(std::io::stderr().lock().write_all(format!("{line}\n").as_bytes()));
        let bar = lock(&self.inner.bar).clone();
        match bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Keeps lines on standard error apart from this progress line.
    pub(crate) fn set_bar(&self, bar: Option<indicatif::ProgressBar>) {
        *lock(&self.inner.bar) = bar;
    }

    /// A table: its head and its rows; the columns in `right` are flush right. The last column is never padded.
    pub fn table(&self, head: &[&str], right: &[usize], rows: &[Vec<String>]) {
        let mut widths: Vec<usize> = head.iter().map(|h| h.chars().count()).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let print = |cells: &mut dyn Iterator<Item = &str>| {
            let mut line = String::new();
            for (column, cell) in cells.enumerate() {
                let pad = widths.get(column).map_or(0, |w| w.saturating_sub(cell.chars().count()));
                let gap = if column == 0 { "" } else { "  " };
                match right.contains(&column) {
                    true => drop(write!(line, "{gap}{:pad$}{cell}", "")),
                    false => drop(write!(line, "{gap}{cell}{:pad$}", "")),
                }
            }
            self.line(line.trim_end());
        };
        print(&mut head.iter().copied());
        rows.iter().for_each(|row| print(&mut row.iter().map(String::as_str)));
    }

    /// The warnings of a repository that was opened.
    pub fn repository_warnings(&self, warnings: &[String]) {
        warnings.iter().for_each(|warning| self.warning(warning));
    }
}

/// Whether a person sits at standard error.
pub fn is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Fields with their `message_type`; `schema_version` too for a `summary`.
fn typed(message_type: &str, fields: &impl Serialize) -> Value {
    let mut line = Map::new();
    line.insert("message_type".into(), message_type.into());
    if message_type == "summary" {
        line.insert("schema_version".into(), SCHEMA_VERSION.into());
    }
    match serde_json::to_value(fields) {
        Ok(Value::Object(fields)) => line.extend(fields),
        Ok(Value::Null) | Err(_) => {}
        Ok(other) => drop(line.insert("value".into(), other)),
    }
    Value::Object(line)
}

/// A path for JSON: `path`, and `path_b64` as well where the bytes are not plain UTF-8 text.
pub fn json_path(path: &[u8]) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("path".into(), shown(path).into());
    let is_clean = std::str::from_utf8(path).is_ok_and(|text| shown(path) == text);
    if !is_clean {
        fields.insert("path_b64".into(), repo::base64(path).into());
    }
    fields
}

/// A path from a file system or a repository, for people and JSON: control characters and what is not UTF-8 as `%XX`.
pub fn shown(path: &[u8]) -> String {
    clean(&percent_path(path))
}

/// As [`shown`], of a path of this system.
pub fn shown_path(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    shown(path.as_os_str().as_bytes())
}

/// Text without control characters, and without those that change the direction of writing: they are written as
/// `\u{…}`.
pub fn clean(text: &str) -> String {
    let is_bad = |c: char| {
        c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
    };
    if !text.contains(is_bad) {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len() + 8), |mut out, c| {
        match is_bad(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
        out
    })
}

/// Bytes for people: `512 B`, `18.2 GiB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let (mut value, mut unit) = (n as f64 / 1024.0, 0);
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A count for people: `950`, `81k`, `1.2M`.
pub fn count(n: u64) -> String {
    match n {
        0..10_000 => n.to_string(),
        10_000..1_000_000 => format!("{}k", n / 1000),
        _ => format!("{:.1}M", n as f64 / 1e6),
    }
}

/// A length of time for people: `0.4 s`, `12:04`, `1:02:09`.
pub fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    clock(seconds as u64)
}

/// A length of time as a clock shows it: `00:04`, `12:04`, `1:02:09`.
pub fn clock(seconds: u64) -> String {
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if h > 0 { format!("{h}:{m:02}:{s:02}") } else { format!("{m:02}:{s:02}") }
}

/// A moment in UTC as people read it in this machine's time zone: `2025-12-09 14:30:00`.
pub fn local_time(rfc3339: &str) -> String {
    match rfc3339.parse::<jiff::Timestamp>() {
        Ok(at) => at.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => clean(rfc3339),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_never_holds_control_characters() {
        assert_eq!(clean("a\nb\u{1b}[31m"), "a\\nb\\u{1b}[31m");
        assert_eq!(clean("x\u{202e}y"), "x\\u{202e}y");
        assert!(!shown(b"/sp ace/new\nline\xff").contains('\n'));
    }

    #[test]
    fn numbers_for_people() {
        for (n, expect) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (19_542_101_196, "18.2 GiB"), ((1 << 20) - 1, "1.0 MiB")]
        {
            assert_eq!(bytes(n), expect);
        }
        assert_eq!((count(9_999), count(81_234), count(1_234_567)), ("9999".into(), "81k".into(), "1.2M".into()));
        assert_eq!((clock(724), clock(3729), duration(0.44)), ("12:04".into(), "1:02:09".into(), "0.4 s".into()));
    }

    #[test]
    fn paths_in_json_carry_their_bytes_only_where_text_cannot() {
        assert_eq!(json_path(b"/etc/hosts").len(), 1);
        assert_eq!(json_path(b"/\xff").get("path_b64"), Some(&"L/8=".into()));
    }
}

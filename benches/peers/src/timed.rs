//! Runs one command and says what it took.
//!
//! What it may not know: which tool it runs. Where data comes from and goes: a command line in; seconds, bytes and the
//! last words of standard error out. CPU time and peak memory come from GNU time, which asks the kernel for the whole
//! tree of processes: the standard library cannot, and a child of a large process would inherit its peak.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Job {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(&'static str, OsString)>,
    dir: Option<PathBuf>,
}

impl Job {
    /// A command without arguments.
    pub fn new(program: &Path) -> Job {
        Job { program: program.to_owned(), args: Vec::new(), env: Vec::new(), dir: None }
    }

    /// Adds words of one line, parted by spaces.
    pub fn words(mut self, words: &str) -> Job {
        self.args.extend(words.split_whitespace().map(OsString::from));
        self
    }

    /// Adds one argument as it is.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Job {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Job {
        self.env.push((name, value.as_ref().to_owned()));
        self
    }

    /// Runs it there.
    pub fn within(mut self, dir: &Path) -> Job {
        self.dir = Some(dir.to_owned());
        self
    }

    fn start_of(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(self.env.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
        for name in ["PATH", "LANG", "TZ"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command
    }

    /// What it prints.
    ///
    /// # Errors
    /// When it cannot be started or fails: what it said last.
    pub fn output(&self) -> Result<String, String> {
        let output = self.start_of(&self.program).args(&self.args).output();
        let output = output.map_err(|e| format!("cannot start {}: {e}", self.program.display()))?;
        if !output.status.success() {
            return Err(format!("{} ({})", last_words(&output.stderr), output.status));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs it, with its output thrown away, and says what it took. Scratch files lie in `scratch`.
    ///
    /// # Errors
    /// When it cannot be started or fails: what it said last.
    pub fn timed(&self, scratch: &Path) -> Result<Cost, String> {
        let (spent, said) = (scratch.join("spent"), scratch.join("said"));
        let errors = File::create(&said).map_err(|e| format!("{}: {e}", said.display()))?;
        let mut command = self.start_of(Path::new("time"));
        command.args(["-q", "-f", "%U %S %M", "-o"]).arg(&spent).arg(&self.program).args(&self.args);
        command.stdout(Stdio::null()).stderr(errors);
        let busy = busy_seconds()?;
        let start = Instant::now();
        let status = command.status().map_err(|e| format!("cannot start GNU time (Debian's package time): {e}"))?;
        let wall = start.elapsed().as_secs_f64();
        let busy = busy_seconds()? - busy;
        if !status.success() {
            return Err(format!("{} ({status})", last_words(&std::fs::read(&said).unwrap_or_default())));
        }
        let text = std::fs::read_to_string(&spent).map_err(|e| format!("{}: {e}", spent.display()))?;
        let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [user, system, kibibytes] = numbers[..] else {
            return Err(format!("GNU time says something else: {text}"));
        };
        let cpu = user + system;
        Ok(Cost { wall, cpu, peak_bytes: (kibibytes * 1024.0) as u64, others: (busy - cpu).max(0.0) })
    }
}

/// What a command took.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Seconds from start to end.
    pub wall: f64,
    /// Processor seconds, user and system, of the process and all that it started.
    pub cpu: f64,
    /// Resident memory of the largest process at its peak, in bytes.
    pub peak_bytes: u64,
    /// Processor seconds that everything else on the machine took meanwhile.
    pub others: f64,
}

/// The last line that says something.
fn last_words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it said nothing");
    line.chars().take(200).collect()
}

/// Processor seconds that were not idle since the machine started.
fn busy_seconds() -> Result<f64, String> {
    let text = std::fs::read_to_string("/proc/stat").map_err(|e| format!("/proc/stat: {e}"))?;
    let first = text.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = first.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    let all: u64 = ticks.iter().take(8).sum();
    Ok((all - idle) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_took_is_measured_and_its_failure_told() {
        let scratch = std::env::temp_dir().join(format!("peers-timed-{}", std::process::id()));
        std::fs::create_dir_all(&scratch).unwrap();
        let shell = |line: &str| Job::new(Path::new("/bin/sh")).arg("-c").arg(line);
        let cost = shell("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done").timed(&scratch).unwrap();
        assert!(cost.cpu > 0.0 && cost.wall > 0.0 && cost.peak_bytes > 100_000, "{cost:?}");
        let failed = shell("echo first; echo the reason >&2; exit 3").timed(&scratch).unwrap_err();
        assert!(failed.contains("the reason") && failed.contains('3'), "{failed}");
        assert_eq!(shell("echo $WHO").env("WHO", "me").output().unwrap(), "me\n");
        std::fs::remove_dir_all(&scratch).unwrap();
    }
}

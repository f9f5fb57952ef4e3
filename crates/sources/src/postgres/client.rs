//! Running PostgreSQL's client programs: how they are told whom to talk to, what they say, and how they end.
//!
//! What it is for: no password among arguments, no name that a program takes for an option or an address, one line for why
//! it failed. What it may not know: what a program is run for.
//! Where data comes from and goes: a [`Server`] becomes an environment; standard error becomes [`Said`].

use super::tls::Tls;
use super::tools::Tools;
use super::wire::Server;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use store::World;

/// How often a program is looked at.
const TICK: Duration = Duration::from_millis(50);
/// How long a program may take to end when it is asked to.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// The longest line that is kept of what a program says.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// How many complaints are kept.
const COMPLAINTS_MAX: usize = 100;
/// How many of them tell why it failed.
const REASONS_MAX: usize = 3;

/// Why a program did not do what it was started for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It failed.
    #[error("{program}: {why}")]
    Failed {
        /// Its name.
        program: String,
        /// What it said, in one line.
        why: String,
    },
    /// Somebody asked to stop.
    #[error("interrupted")]
    Stopped,
}

/// A program that talks to `server`, without arguments yet. The database is for the caller to name: see [`conninfo`].
pub fn command(tools: &Tools, program: &str, server: &Server) -> Command {
    let mut command = elsewhere(tools, program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        // Settings of somebody's shell must not lead it to another server.
        if text.starts_with("PG") {
            command.env_remove(&name);
        }
    }
    command.env("PGHOST", &server.host).env("PGPORT", server.port.to_string()).env("PGUSER", &server.user);
    command.env("PGAPPNAME", "backstay").env("PGCONNECT_TIMEOUT", "10");
    let Tls { mode, roots, certificate } = &server.tls;
    command.env("PGSSLMODE", mode.word());
    if let Some(roots) = roots {
        command.env("PGSSLROOTCERT", roots);
    }
    if let Some((certificate, key)) = certificate {
        command.env("PGSSLCERT", certificate).env("PGSSLKEY", key);
    }
    if let Some(password) = &server.password {
        command.env("PGPASSWORD", password.as_str());
    }
    command
}

/// A program that the caller tells whom to talk to, as this one's environment does.
pub fn elsewhere(tools: &Tools, program: &str) -> Command {
    let mut command = Command::new(tools.program(program));
    for (name, _) in std::env::vars_os() {
        // Where our keys are is none of its business.
        if name.to_string_lossy().starts_with("BACKSTAY_") {
            command.env_remove(&name);
        }
    }
    command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// A database as an argument that means nothing but this name, whatever is in it.
pub fn conninfo(database: &str) -> String {
    format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// What a program said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Errors and what it added to them, the first ones.
    pub errors: Vec<String>,
    /// Warnings, the first ones.
    pub warnings: Vec<String>,
    /// What it is doing: a table, as `schema.table`.
    pub doing: Option<String>,
    last: String,
}

impl Said {
    /// Takes a line of what `program` says with `--verbose`, in English.
    fn hear(&mut self, program: &str, line: &str) {
        let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let rest = line.strip_prefix(program).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&line);
        let keep = |list: &mut Vec<String>, text: &str| {
            if list.len() < COMPLAINTS_MAX {
                list.push(text.trim().to_owned());
            }
        };
        if let Some(text) = rest.strip_prefix("error: ") {
            keep(&mut self.errors, text);
        } else if let Some(text) = rest.strip_prefix("detail: ") {
            // What it asked says nothing to a person.
            if !text.starts_with("Query was:") && !text.starts_with("Command was:") && !self.errors.is_empty() {
                keep(&mut self.errors, text);
            }
        } else if let Some(text) = rest.strip_prefix("warning: ") {
            keep(&mut self.warnings, text);
        } else if let Some(text) =
            ["dumping contents of table ", "processing data for table "].iter().find_map(|how| rest.strip_prefix(how))
        {
            self.doing = Some(text.trim_matches('"').to_owned());
        }
        self.last = line;
    }

    /// Why it failed, in one line.
    fn why(&self, status: ExitStatus) -> String {
        match (status.signal(), self.errors.as_slice()) {
            (_, [first, rest @ ..]) => {
                let more = rest.iter().take(REASONS_MAX - 1).filter(|text| !first.contains(text.as_str()));
                more.fold(first.clone(), |all, text| format!("{}; {text}", all.trim_end_matches('.')))
            }
            (Some(signal), []) => format!("it was ended by signal {signal}"),
            (None, []) if self.last.is_empty() => format!("it ended with {status}"),
            (None, []) => self.last.clone(),
        }
    }
}

/// Stops a program and its helpers where they are, and lets them go on. If this process dies meanwhile, the kernel ends them, as
/// it does with stopped programs whose session has nobody left to wake them. Not to be used once the program was seen to end.
#[derive(Clone, Copy, Debug)]
pub struct Brake(Option<Pid>);

impl Brake {
    /// Stops it.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on, if it was stopped.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.0 {
            // It may have ended.
            kill_process_group(pid, signal).ok();
        }
    }
}

/// A program that runs. Ended when dropped.
pub struct Running {
    name: String,
    child: Child,
    said: Arc<Mutex<Said>>,
    listener: Option<JoinHandle<()>>,
    world: World,
}

impl Running {
    /// Starts `command`, which is the program `name`.
    ///
    /// # Errors
    /// `Failed` when it cannot be started.
    pub fn start(mut command: Command, name: &str, world: &World) -> Result<Running, ClientError> {
        let failed = |e: io::Error| ClientError::Failed { program: name.to_owned(), why: e.to_string() };
        // A group of its own: an interrupt is for us, and we end it in our way.
        let mut child = command.process_group(0).spawn().map_err(failed)?;
        let said = Arc::new(Mutex::new(Said::default()));
        let listener = child.stderr.take().map(|stderr| {
            let (said, name) = (Arc::clone(&said), name.to_owned());
            std::thread::spawn(move || listen(stderr, &name, &said))
        });
        Ok(Running { name: name.to_owned(), child, said, listener, world: world.clone() })
    }

    /// What it said so far.
    pub fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What stops it and lets it go on, for another thread.
    pub fn brake(&self) -> Brake {
        Brake(i32::try_from(self.child.id()).ok().and_then(Pid::from_raw))
    }

    /// Its standard output, when it has one that nobody took yet.
    pub fn output(&mut self) -> Option<impl Read + Send + 'static> {
        self.child.stdout.take()
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// `Stopped` when somebody asked to stop.
    pub fn has_ended(&mut self) -> Result<bool, ClientError> {
        if self.world.stop.requested() {
            return Err(ClientError::Stopped);
        }
        Ok(!matches!(self.child.try_wait(), Ok(None)))
    }

    /// Waits until it has ended, and returns what it said.
    ///
    /// # Errors
    /// `Failed` when it did not succeed; `Stopped`.
    pub fn finish(mut self) -> Result<Said, ClientError> {
        while !self.has_ended()? {
            self.world.clock.sleep(TICK);
        }
        let ended = self.child.wait();
        if let Some(listener) = self.listener.take() {
            // A panic there would have ended the program's life as well.
            listener.join().ok();
        }
        let said = self.said().clone();
        let failed = |why| ClientError::Failed { program: self.name.clone(), why };
        match ended {
            Ok(status) if status.success() => Ok(said),
            Ok(status) => Err(failed(said.why(status))),
            Err(e) => Err(failed(e.to_string())),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) else { return };
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        // Asked like this, it tells the server to stop, and its own helpers.
        kill_process(pid, Signal::TERM).ok();
        self.brake().resume();
        let began = self.world.clock.monotonic();
        while matches!(self.child.try_wait(), Ok(None)) {
            if self.world.clock.monotonic().saturating_sub(began) > END_PATIENCE {
                kill_process_group(pid, Signal::KILL).ok();
                self.child.wait().ok();
            }
            self.world.clock.sleep(TICK);
        }
    }
}

fn listen(stderr: ChildStderr, name: &str, said: &Mutex<Said>) {
    let mut reader = BufReader::new(stderr);
    loop {
        let mut line = Vec::new();
        match reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let line = String::from_utf8_lossy(&line);
                said.lock().unwrap_or_else(PoisonError::into_inner).hear(name, line.trim_end());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_a_name_whatever_is_in_it() {
        for (name, expect) in [
            ("shop", "dbname='shop'"),
            ("it's", "dbname='it\\'s'"),
            ("a\\b", "dbname='a\\\\b'"),
            ("-x host=evil", "dbname='-x host=evil'"),
        ] {
            assert_eq!(conninfo(name), expect);
        }
    }

    #[test]
    fn a_failure_is_told_in_one_line_without_what_was_asked() {
        let mut said = Said::default();
        for line in [
            "pg_dump: last built-in OID is 16383",
            "pg_dump: dumping contents of table \"public.odd\tname\"",
            "pg_dump: warning: there are circular foreign-key constraints on this table:",
            "pg_dump: error: Dumping the contents of table \"odd\" failed: PQgetResult() failed.",
            "pg_dump: detail: Error message from server: FATAL:  terminating connection due to administrator command",
            "pg_dump: detail: Command was: COPY public.odd TO stdout;",
        ] {
            said.hear("pg_dump", line);
        }
        assert_eq!(said.doing.as_deref(), Some("public.odd name"));
        assert_eq!(said.warnings.len(), 1);
        assert_eq!(
            said.why(ExitStatus::from_raw(1 << 8)),
            "Dumping the contents of table \"odd\" failed: PQgetResult() failed; Error message from server: FATAL:  \
             terminating connection due to administrator command"
        );
    }

    #[test]
    fn a_program_that_says_nothing_is_told_by_its_end() {
        assert_eq!(Said::default().why(ExitStatus::from_raw(9)), "it was ended by signal 9");
        assert_eq!(Said::default().why(ExitStatus::from_raw(3 << 8)), "it ended with exit status: 3");
    }

    #[test]
    fn a_program_that_runs_is_ended_with_its_owner() {
        let world = World::real();
        let mut command = Command::new("sleep");
        command.arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let running = Running::start(command, "sleep", &world).expect("starts");
        let pid = Pid::from_raw(i32::try_from(running.child.id()).expect("fits")).expect("a number");
        drop(running);
        assert!(rustix::process::test_kill_process(pid).is_err());
    }

    #[test]
    fn a_program_that_is_paused_does_nothing_until_it_is_resumed_and_can_be_ended() {
        let world = World::real();
        let start = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
            Running::start(command, "sh", &world).expect("starts")
        };
        let state = |running: &Running| {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.child.id())).expect("lives");
            stat.rsplit(") ").next().and_then(|rest| rest.chars().next())
        };
        let mut running = start("sleep 0.2; exit 0");
        running.brake().pause();
        while state(&running) != Some('T') {
            world.clock.sleep(TICK);
        }
        assert_eq!(running.has_ended().ok(), Some(false));
        running.brake().resume();
        running.finish().expect("ends well once it goes on");
        let running = start("sleep 1000");
        running.brake().pause();
        let pid = Pid::from_raw(i32::try_from(running.child.id()).expect("fits")).expect("a number");
        drop(running);
        assert!(rustix::process::test_kill_process(pid).is_err());
    }
}

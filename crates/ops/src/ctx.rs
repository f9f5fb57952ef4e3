//! Where and as whom the program runs: what every verb is handed.
//!
//! What it is for: [`Ctx`], and telling whether another process still lives.
//! What it may not know: command lines.
//! Where data comes from and goes: the kernel's files, once at the start.

use repo::{Life, Process};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use store::World;

/// What every verb is handed.
pub struct Ctx {
    /// Clock, randomness, threads, and the flag that asks to stop.
    pub world: World,
    /// For what can be made again; may not exist yet.
    pub cache_dir: PathBuf,
    /// For what is remembered about repositories; may not exist yet.
    pub state_dir: PathBuf,
    /// Which process this is.
    pub process: Process,
    /// Host name, as snapshots show it.
    pub host: String,
    /// Who runs this, as snapshots show it.
    pub user: String,
    /// Name and version of the program.
    pub program: String,
    /// What is worth a warning about this machine rather than about the repository: one sentence each.
    pub remarks: Arc<Mutex<Vec<String>>>,
}

impl Ctx {
    /// Notes something about this machine that is worth a warning.
    pub fn remark(&self, remark: impl Into<String>) {
        self.remarks.lock().expect("no holder panics").push(remark.into());
    }

    /// What was noted since this was last asked.
    pub fn take_remarks(&self) -> Vec<String> {
        std::mem::take(&mut *self.remarks.lock().expect("no holder panics"))
    }

    /// The context of this process in the real world. `command` is what it does, in a word: `backup`.
    pub fn here(cache_dir: PathBuf, state_dir: PathBuf, program: &str, command: &str) -> Ctx {
        let host = host_name();
        let process = Process {
            host: machine(&host),
            pid: std::process::id(),
            started: started("self").unwrap_or_default(),
            boot: boot_id(),
            command: command.to_owned(),
        };
        Ctx {
            world: World::real(),
            cache_dir,
            state_dir,
            process,
            host,
            user: user_name(),
            program: program.to_owned(),
            remarks: Arc::default(),
        }
    }

    /// What is known about `process`. It can be judged only where it ran: on this machine, where processes are numbered as
    /// this one sees them.
    pub fn life_of(&self, process: &Process) -> Life {
        if process.host != self.process.host || process.boot.is_empty() || self.process.boot.is_empty() {
            return Life::Unknown;
        }
        if process.boot != self.process.boot {
            return Life::Dead;
        }
        let same = started(&process.pid.to_string()).map(|since| since == process.started);
        // A process of somebody else may be hidden (hidepid), and still answers with a refusal.
        let pid = i32::try_from(process.pid).ok().and_then(rustix::process::Pid::from_raw);
        let gone = pid.is_none_or(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH));
        match same {
            Some(true) => Life::Alive,
            Some(false) => Life::Dead,
            None if gone => Life::Dead,
            None => Life::Unknown,
        }
    }
}

/// The name of this host.
pub fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".into() } else { name }
}

/// The host's name and a mark that tells it from others of that name, and containers with other process numbers from
/// each other.
fn machine(host: &str) -> String {
    let mut mark = blake3::Hasher::new();
    match std::fs::read("/etc/machine-id").ok().filter(|id| !id.trim_ascii().is_empty()) {
        Some(id) => mark.update(id.trim_ascii()),
        // Without an id, another boot may be another machine.
        None => mark.update(boot_id().as_bytes()),
    };
    if let Ok(space) = std::fs::read_link("/proc/self/ns/pid") {
        mark.update(space.as_os_str().as_encoded_bytes());
    }
    format!("{host}#{}", &mark.finalize().to_hex()[..8])
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// When the process with this number (or `self`) started, in clock ticks since boot.
fn started(pid: &str) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, parentheses included.
    let after = stat.iter().rposition(|b| *b == b')')?;
    std::str::from_utf8(&stat[after + 1..]).ok()?.split_ascii_whitespace().nth(19)?.parse().ok()
}

pub(crate) fn user_name() -> String {
    let uid = rustix::process::geteuid().as_raw();
    let passwd = std::fs::read("/etc/passwd").unwrap_or_default();
    let passwd = String::from_utf8_lossy(&passwd);
    let named = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| uid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_one_of_another_boot_does_not() {
        let ctx = Ctx::here("/c".into(), "/s".into(), "backstay 0", "test");
        assert_eq!(ctx.life_of(&ctx.process), Life::Alive);
        assert_eq!(ctx.life_of(&Process { boot: "another".into(), ..ctx.process.clone() }), Life::Dead);
        assert_eq!(ctx.life_of(&Process { started: ctx.process.started + 1, ..ctx.process.clone() }), Life::Dead);
        assert_eq!(
            ctx.life_of(&Process { host: "elsewhere".into(), pid: u32::MAX, ..ctx.process.clone() }),
            Life::Unknown
        );
        assert_eq!(ctx.life_of(&Process { pid: u32::MAX, ..ctx.process.clone() }), Life::Dead);
    }
}

//! A private server on a data directory, for as long as somebody needs it: reached by a socket in a directory of its own, heard
//! by nobody else, and stopped when dropped.
//!
//! It may not know what it is for.

use super::tls::Tls;
use super::tools::Tools;
use super::wire::{Connection, Server, WireError};
use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use store::World;

/// How many bytes of a server's log are shown when it does not start.
const LOG_BYTES_SHOWN: usize = 2000;
/// How long a server may take to stop before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// It cannot be started.
    #[error("cannot start a private server on {}: {why}", data.display())]
    Start {
        /// The data directory.
        data: PathBuf,
        /// What happened, with the end of its log.
        why: String,
    },
    /// It cannot be talked to.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// For whom a server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guest {
    /// A program that waits until it can be written to.
    Program,
    /// People, who may look as soon as it answers. With a port, it listens on this machine's own address too, and asks for
    /// passwords there.
    People(Option<u16>),
}

impl Guest {
    fn port(self) -> u16 {
        match self {
            Guest::People(Some(port)) => port,
            Guest::Program | Guest::People(None) => 5432,
        }
    }
}

/// A server that runs.
pub struct Scratch {
    child: Child,
    data: PathBuf,
    dir: PathBuf,
    user: String,
    guest: Guest,
    world: World,
}

impl Scratch {
    /// Starts a server and waits until it has recovered and takes writes. `dir` is made, private to the owner of `data`, and
    /// removed at the end. `user` is a role that may log in; whoever made the cluster is asked for afterwards.
    ///
    /// # Errors
    /// [`ScratchError`].
    pub fn start(tools: &Tools, data: &Path, dir: &Path, user: &str, world: &World) -> Result<Scratch, ScratchError> {
        Scratch::start_for(Guest::Program, tools, (data, dir), user, world)
    }

    /// As [`Scratch::start`], for others too.
    ///
    /// # Errors
    /// [`ScratchError`].
    pub fn start_for(
        guest: Guest,
        tools: &Tools,
        (data, dir): (&Path, &Path),
        user: &str,
        world: &World,
    ) -> Result<Scratch, ScratchError> {
        let failed = |why: String| ScratchError::Start { data: data.to_owned(), why };
        let io = |e: io::Error| failed(e.to_string());
        let owner = std::fs::metadata(data).map_err(io)?;
        std::fs::DirBuilder::new().mode(0o700).create(dir).map_err(io)?;
        let (access, log) = (dir.join("pg_hba.conf"), dir.join("log"));
        // Nobody but the owner of the directory gets to the socket.
        std::fs::write(&access, "local all all trust\nhost all all 127.0.0.1/32 md5\n").map_err(io)?;
        let output = File::create(&log).map_err(io)?;
        let root = rustix::process::geteuid().is_root();
        if root {
            for path in [dir, access.as_path(), log.as_path()] {
                std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid())).map_err(io)?;
            }
        }
        let mut command = Command::new(tools.program("postgres"));
        command.arg("-D").arg(data);
        let set = |name: &str, value: &Path| format!("{name}={}", value.display());
        let own = [
            // The configuration of the cluster may name those of the server that it was taken of.
            set("data_directory", data),
            set("external_pid_file", &dir.join("pid")),
            set("unix_socket_directories", dir),
            set("hba_file", &access),
            format!("listen_addresses={}", if let Guest::People(Some(_)) = guest { "127.0.0.1" } else { "" }),
            format!("port={}", guest.port()),
            "hot_standby=on".into(),
            "archive_mode=off".into(),
            "autovacuum=off".into(),
            "logging_collector=off".into(),
            "log_destination=stderr".into(),
            "ssl=off".into(),
            "max_logical_replication_workers=0".into(),
            // Nothing that the cluster does by itself at its hour; the name is nobody's where pg_cron is not loaded.
            "cron.launch_active_jobs=off".into(),
            "shared_buffers=64MB".into(),
            "fsync=off".into(),
        ];
        for setting in own {
            command.args(["-c", &setting]);
        }
        command.stdin(Stdio::null()).stdout(output.try_clone().map_err(io)?).stderr(output);
        command.current_dir("/").process_group(0);
        if root {
            command.uid(owner.uid()).gid(owner.gid());
        }
        let child = command.spawn().map_err(io)?;
        let (data, dir, user, world) = (data.to_owned(), dir.to_owned(), user.to_owned(), world.clone());
        let mut scratch = Scratch { child, data, dir, user, guest, world };
        scratch.wait()?;
        Ok(scratch)
    }

    /// That it still runs.
    ///
    /// # Errors
    /// [`ScratchError::Start`] with its last words, when it does not.
    pub fn runs(&mut self) -> Result<(), ScratchError> {
        let Some(status) = self.child.try_wait().ok().flatten() else { return Ok(()) };
        let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let from = log.len().saturating_sub(LOG_BYTES_SHOWN);
        let from = (from..log.len()).find(|at| log.is_char_boundary(*at)).unwrap_or(log.len());
        let why = format!("it ended with {status}. Its last words:\n{}", log[from..].trim());
        Err(ScratchError::Start { data: self.data.clone(), why })
    }

    /// Whether it has not come to where it recovers to yet: it can be read, and not be written to.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn recovers(&self) -> Result<bool, ScratchError> {
        let mut connection = Connection::open(&self.server("postgres"), &self.world.stop)?;
        Ok(connection.value("select pg_is_in_recovery()")?.as_deref() == Some("t"))
    }

    fn wait(&mut self) -> Result<(), ScratchError> {
        loop {
            self.runs()?;
            let asked = Connection::open(&self.server("postgres"), &self.world.stop).and_then(|mut connection| {
                let recovering = connection.value("select pg_is_in_recovery()")?;
                // A role that may back up may not read: the one that initdb made may, and has this number everywhere.
                Ok((recovering, connection.value("select max(rolname) from pg_roles where oid = 10 and rolcanlogin")?))
            });
            match asked {
                Ok((Some(answer), maker)) if answer == "f" || self.guest != Guest::Program => {
                    self.user = maker.unwrap_or_else(|| self.user.clone());
                    return Ok(());
                }
                Err(WireError::Stopped) => return Err(WireError::Stopped.into()),
                // Not there yet: "the database system is starting up", or no socket.
                Ok(_) | Err(WireError::Unreachable { .. }) => {}
                Err(WireError::Refused { code, .. }) if code == "57P03" => {}
                Err(e) => return Err(e.into()),
            }
            if self.world.stop.requested() {
                return Err(WireError::Stopped.into());
            }
            self.world.clock.sleep(Duration::from_millis(50));
        }
    }

    /// How to reach it.
    pub fn server(&self, database: &str) -> Server {
        Server {
            host: self.dir.display().to_string(),
            port: self.guest.port(),
            user: self.user.clone(),
            database: database.to_owned(),
            password: None,
            tls: Tls::default(),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        use rustix::process::{Pid, Signal, kill_process};
        if let Some(pid) = Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(0)) {
            // Nothing of it is needed afterwards: sessions are ended, and nobody waits for a checkpoint.
            kill_process(pid, Signal::QUIT).ok();
        }
        let began = self.world.clock.monotonic();
        while matches!(self.child.try_wait(), Ok(None)) {
            if self.world.clock.monotonic().saturating_sub(began) > STOP_PATIENCE {
                self.child.kill().ok();
                self.child.wait().ok();
            }
            self.world.clock.sleep(Duration::from_millis(20));
        }
        std::fs::remove_dir_all(&self.dir).ok();
    }
}

//! Making a data directory of a snapshot: files, tablespaces, what a server needs to recover, and `pg_control` last
//! (PostgreSQL documentation, "Recovering Using a Continuous Archive Backup", "Recovery Target").
//!
//! What it is for: between the files of a snapshot and a server that can be started. Until `pg_control` is there, and it comes
//! when everything else is on the disk, no server starts on it.
//! What it may not know: which snapshot suits a target, and whether the log reaches it. The caller made sure of that.

use super::Lsn;
use super::base::{Facts, Tablespace};
use crate::files::apply::{
    AfterCheck, Extras, Progress, Rebase, RestoreError, RestoreMode, RestorePlan, RestoreReport, TargetError, preview,
    restore,
};
use repo::{SnapshotReader, key_of_path, unpercent_path};
use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

/// How far replay goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// To the end of the log.
    Latest,
    /// To where the cluster is consistent, and not further.
    Immediate,
    /// To a moment, as the server reads it.
    Time(String),
    /// To a position.
    Lsn(Lsn),
    /// To a transaction.
    Xid(u64),
    /// To a point named with `pg_create_restore_point`.
    Name(String),
}

/// Whether what is exactly at the goal is replayed too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// It is.
    Inclusive,
    /// It is not.
    Exclusive,
}

/// What the server does when it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It opens for writing, on a timeline of its own.
    Promote,
    /// It waits, readable, for somebody to look.
    Pause,
    /// It stops.
    Shutdown,
}

/// Whether the restored server archives its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Archiving {
    /// It does not, so that it cannot write into the archive of the server that it is a copy of.
    Off,
    /// As the server did that was backed up: for one that takes its place.
    AsBefore,
}

/// How the server shall recover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// How far.
    pub goal: Goal,
    /// See [`Edge`].
    pub edge: Edge,
    /// Along which timeline.
    pub timeline: u32,
    /// See [`Arrival`].
    pub arrival: Arrival,
    /// See [`Archiving`].
    pub archiving: Archiving,
    /// Whether the server may read its log further than it replays it, as it likes to.
    pub reads_ahead: bool,
    /// What fetches a segment, with `%f` and `%p`.
    pub restore_command: String,
}

/// What to make.
#[derive(Clone, Debug)]
pub struct ClusterPlan {
    /// The data directory.
    pub target: PathBuf,
    /// Where each tablespace goes, in the order of the facts.
    pub tablespaces: Vec<PathBuf>,
    /// Into nothing, or over a data directory of the same cluster.
    pub mode: RestoreMode,
    /// How the server shall recover.
    pub recovery: Recovery,
}

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The files.
    #[error(transparent)]
    Files(#[from] RestoreError),
    /// What is wrong with the target, as a sentence.
    #[error("{0}")]
    Target(String),
    /// Something else could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

type Result<T> = std::result::Result<T, ClusterError>;

/// What was made.
#[derive(Clone, Debug, Default)]
pub struct ClusterReport {
    /// The data directory and the tablespaces.
    pub files: RestoreReport,
}

/// Settings that belong to the recovery of another server, or to another role of this one.
const FOREIGN_SETTINGS: [&str; 6] = [
    "restore_command",
    "archive_cleanup_command",
    "recovery_",
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
];

impl ClusterPlan {
    /// Looks whether the plan can be carried out, without touching anything. Returns how many files and bytes there are.
    ///
    /// # Errors
    /// [`ClusterError`]: a target that is not empty, in use, of another cluster, or too small.
    pub fn check(&self, facts: &Facts, reader: &SnapshotReader) -> Result<(u64, u64)> {
        if let RestoreMode::Delta(_) = self.mode {
            self.check_existing(facts)?;
        }
        let (mut files, mut bytes) = (0, 0);
        for plan in self.parts(facts)? {
            let found = preview(&plan, reader)?;
            found.check_space(&plan).map_err(RestoreError::from)?;
            files += found.files;
            bytes += found.bytes;
        }
        Ok((files, bytes))
    }

    /// That a directory which is written over is a data directory of this cluster that no server runs on.
    fn check_existing(&self, facts: &Facts) -> Result<()> {
        let target = self.target.display();
        let version = std::fs::read_to_string(self.target.join("PG_VERSION"));
        let Ok(version) = version else {
            return Err(ClusterError::Target(format!("{target} is no data directory: it has no PG_VERSION")));
        };
        if version.trim() != facts.major().to_string() {
            let (version, major) = (version.trim(), facts.major());
            return Err(ClusterError::Target(format!(
                "{target} is of PostgreSQL {version}, and the backup of {major}"
            )));
        }
        let control = std::fs::read(self.target.join("global/pg_control")).ok();
        if let Some(system) = control.as_deref().and_then(super::control::system)
            && system.to_string() != facts.system
        {
            return Err(ClusterError::Target(format!(
                "{target} belongs to another cluster: its system identifier differs"
            )));
        }
        match runs_on(&self.target) {
            Some(pid) => Err(ClusterError::Target(format!("a server runs on {target} (process {pid}): stop it first"))),
            None => Ok(()),
        }
    }

    /// Makes the data directory. When this returns `Ok`, a server can be started on it, and it survives power loss.
    ///
    /// # Errors
    /// [`ClusterError`]; what is there then has no `pg_control`, so that no server starts on it.
    pub fn restore(
        &self,
        facts: &Facts,
        reader: &SnapshotReader,
        on: &(dyn Fn(Progress) + Sync),
    ) -> Result<ClusterReport> {
        control_of(facts)?;
        if let RestoreMode::Delta(_) = self.mode {
            self.check_existing(facts)?;
            self.disarm()?;
        }
        let places = std::iter::once(&self.target).chain(&self.tablespaces);
        let made: Vec<&Path> = places.flat_map(|place| place.ancestors().take_while(|dir| !dir.exists())).collect();
        let mut report = ClusterReport::default();
        for plan in self.parts(facts)? {
            report.files.add(restore(&plan, reader, on)?);
        }
        // Whoever starts the server must get to where root put it.
        made.into_iter().try_for_each(|dir| self.own(dir))?;
        self.arm(facts)?;
        Ok(report)
    }

    /// Writes everything that is not among the files of the snapshot, which are all there. When this returns `Ok`, a server can
    /// be started on it.
    ///
    /// # Errors
    /// [`ClusterError`]; there is no `pg_control` then.
    pub fn arm(&self, facts: &Facts) -> Result<()> {
        let control = control_of(facts)?;
        self.check_directories()?;
        self.complete(facts)?;
        // Nothing may start on it before everything else is on the disk.
        let global = self.target.join("global");
        sync_directories(&self.target)?;
        write(&global.join("pg_control"), &control)?;
        sync(&global)
    }

    /// The directories of the snapshot that the cluster consists of, by their path keys, and where each of them belongs.
    ///
    /// # Errors
    /// [`ClusterError`]: paths that make no sense.
    pub fn directories(&self, facts: &Facts) -> Result<Vec<(Vec<u8>, PathBuf)>> {
        Ok(self.parts(facts)?.into_iter().map(|part| (part.within, part.target)).collect())
    }

    /// One restore of files for the data directory, and one for each tablespace.
    fn parts(&self, facts: &Facts) -> Result<Vec<RestorePlan>> {
        let bad = || ClusterError::Target("the snapshot names paths that make no sense".into());
        let part = |stored: &str, target: PathBuf| -> Result<RestorePlan> {
            let within = key_of_path(&unpercent_path(stored)).ok_or_else(bad)?;
            let (rebase, mode, check) = (Rebase::StripPrefix, self.mode, AfterCheck::None);
            Ok(RestorePlan { within, rebase, mode, check, ..RestorePlan::new(target) })
        };
        let mut parts = vec![part(&facts.data_directory, self.target.clone())?];
        for (space, target) in facts.tablespaces.iter().zip(&self.tablespaces) {
            let mut plan = part(&space.stored, target.join(version_directory(space).ok_or_else(bad)?))?;
            // The directory of a tablespace holds one directory for each version that uses it.
            if !plan.target.exists() {
                plan.mode = RestoreMode::NewTarget;
            }
            parts.push(plan);
        }
        Ok(parts)
    }

    /// Takes away what would let a server start on something half restored.
    fn disarm(&self) -> Result<()> {
        let global = self.target.join("global");
        let failed = |path: &Path, source| ClusterError::Write { path: path.to_owned(), source };
        let gone = |path: &Path, result: io::Result<()>| match result {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed(path, e)),
            _ => Ok(()),
        };
        let control = global.join("pg_control");
        gone(&control, std::fs::remove_file(&control))?;
        sync(&global)?;
        for name in ["backup_label", "tablespace_map", "recovery.signal", "standby.signal", "postmaster.pid"] {
            let path = self.target.join(name);
            gone(&path, std::fs::remove_file(&path))?;
        }
        // Its log is of a history that ends here.
        let wal = self.target.join("pg_wal");
        match std::fs::symlink_metadata(&wal) {
            Ok(found) if found.is_dir() => gone(&wal, std::fs::remove_dir_all(&wal)),
            Ok(_) => gone(&wal, std::fs::remove_file(&wal)),
            Err(_) => Ok(()),
        }
    }

    /// What is written behind the files goes through these: a link among them, which only a forged snapshot has, would lead
    /// it elsewhere.
    fn check_directories(&self) -> Result<()> {
        for name in ["global", "pg_tblspc", "pg_wal", "pg_wal/archive_status"] {
            match std::fs::symlink_metadata(self.target.join(name)) {
                Ok(found) if !found.is_dir() => {
                    let what = format!("{name} of the snapshot is no directory, as it is in every cluster");
                    return Err(ClusterError::Target(what));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes everything that is not in the snapshot's files.
    fn complete(&self, facts: &Facts) -> Result<()> {
        for name in ["pg_wal", "pg_wal/archive_status"] {
            let path = self.target.join(name);
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(ClusterError::Write { path, source: e });
                }
                _ => self.own(&path)?,
            }
        }
        for (space, target) in facts.tablespaces.iter().zip(&self.tablespaces) {
            let link = self.target.join("pg_tblspc").join(space.oid.to_string());
            let made = std::fs::remove_file(&link).or_else(ignore_absent).and_then(|()| symlink(target, &link));
            made.map_err(|source| ClusterError::Write { path: link, source })?;
            self.own(target)?;
        }
        let configuration = self.target.join("postgresql.conf");
        if !configuration.exists() {
            write(&configuration, substitute(facts).as_bytes())?;
            let access = self.target.join("pg_hba.conf");
            if !access.exists() {
                write(
                    &access,
                    b"# The configuration was kept outside the data directory: put yours here.\nlocal all all peer\n",
                )?;
            }
            let users = self.target.join("pg_ident.conf");
            if !users.exists() {
                write(&users, b"")?;
            }
        }
        let auto = self.target.join("postgresql.auto.conf");
        let before = match read_no_link(&auto) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.map_err(|source| ClusterError::Write { path: auto.clone(), source })?,
        };
        write(&auto, settings(&before, &self.recovery).as_bytes())?;
        write(&self.target.join("backup_label"), facts.backup_label.as_bytes())?;
        write(&self.target.join("recovery.signal"), b"")
    }

    /// Root restores for whoever owns the data directory.
    fn own(&self, path: &Path) -> Result<()> {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let failed = |source| ClusterError::Write { path: path.to_owned(), source };
        let owner = std::fs::metadata(&self.target).map_err(failed)?;
        std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid())).map_err(failed)
    }
}

fn ignore_absent(e: io::Error) -> io::Result<()> {
    if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) }
}

/// The control file of a backup.
fn control_of(facts: &Facts) -> Result<Vec<u8>> {
    repo::unbase64(&facts.control).ok_or_else(|| ClusterError::Target("the snapshot has no usable pg_control".into()))
}

/// The directory of a tablespace's files: `PG_15_202209061`.
fn version_directory(space: &Tablespace) -> Option<PathBuf> {
    let stored = unpercent_path(&space.stored);
    let name = stored.rsplit(|byte| *byte == b'/').next()?;
    name.starts_with(b"PG_").then(|| PathBuf::from(OsStr::from_bytes(name)))
}

/// The process of a server that runs on this data directory.
pub fn runs_on(data: &Path) -> Option<i32> {
    let text = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let pid: i32 = text.lines().next()?.trim().parse().ok()?;
    let process = rustix::process::Pid::from_raw(pid.abs())?;
    // Not ours to signal is alive too.
    let alive = !matches!(rustix::process::test_kill_process(process), Err(rustix::io::Errno::SRCH));
    alive.then_some(pid)
}

/// A configuration for a cluster whose own lay outside its data directory.
fn substitute(facts: &Facts) -> String {
    let mut text = String::from("# The configuration of this cluster was kept outside its data directory");
    text.push_str(match facts.configuration.is_empty() {
        true => ". The server, which sent the files, did not send it.\n",
        false => "; it is in the snapshot as:\n",
    });
    for path in &facts.configuration {
        text.push_str(&format!("#   {path}\n"));
    }
    text.push_str("# Until you put it in place, these settings let the server recover.\n");
    for (name, value) in &facts.settings {
        text.push_str(&format!("{name} = {}\n", quoted(value)));
    }
    text
}

/// A value of a configuration file.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// What `postgresql.auto.conf` must say, given what it said.
fn settings(before: &str, recovery: &Recovery) -> String {
    let foreign = |line: &&str| {
        let line = line.trim_start();
        FOREIGN_SETTINGS.iter().any(|name| line.starts_with(name))
    };
    let mut text: String = before.lines().filter(|line| !foreign(line)).flat_map(|line| [line, "\n"]).collect();
    let mut put = |name: &str, value: &str| text.push_str(&format!("{name} = {}\n", quoted(value)));
    put("restore_command", &recovery.restore_command);
    match &recovery.goal {
        Goal::Latest => {}
        Goal::Immediate => put("recovery_target", "immediate"),
        Goal::Time(time) => put("recovery_target_time", time),
        Goal::Lsn(lsn) => put("recovery_target_lsn", &lsn.to_string()),
        Goal::Xid(xid) => put("recovery_target_xid", &xid.to_string()),
        Goal::Name(name) => put("recovery_target_name", name),
    }
    if !matches!(recovery.goal, Goal::Latest | Goal::Immediate) {
        put("recovery_target_inclusive", if recovery.edge == Edge::Inclusive { "on" } else { "off" });
    }
    put("recovery_target_timeline", &recovery.timeline.to_string());
    if recovery.goal != Goal::Latest {
        put(
            "recovery_target_action",
            match recovery.arrival {
                Arrival::Promote => "promote",
                Arrival::Pause => "pause",
                Arrival::Shutdown => "shutdown",
            },
        );
    }
    if !recovery.reads_ahead {
        put("recovery_prefetch", "off");
    }
    if recovery.archiving == Archiving::Off {
        put("archive_mode", "off");
    }
    text
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |source| ClusterError::Write { path: path.to_owned(), source };
    let temp = path.with_extension("backstay-tmp");
    // Whatever has this name was not made here, and may be a link.
    std::fs::remove_file(&temp).or_else(ignore_absent).map_err(failed)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temp).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    if let (true, Some(owner)) =
        (rustix::process::geteuid().is_root(), path.parent().and_then(|dir| dir.metadata().ok()))
    {
        std::os::unix::fs::chown(&temp, Some(owner.uid()), Some(owner.gid())).map_err(failed)?;
    }
    std::fs::rename(&temp, path).map_err(failed)
}

fn read_no_link(path: &Path) -> io::Result<String> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
    io::read_to_string(OpenOptions::new().read(true).custom_flags(flags).open(path)?)
}

fn sync(dir: &Path) -> Result<()> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|source| ClusterError::Write { path: dir.to_owned(), source })
}

/// Makes what lies in the directories of a cluster durable: the files of a restore are on the disk when it returns, and what
/// was made since is in these.
fn sync_directories(target: &Path) -> Result<()> {
    for name in ["pg_wal/archive_status", "pg_wal", "pg_tblspc", ""] {
        let dir = target.join(name);
        if dir.is_dir() {
            sync(&dir)?;
        }
    }
    Ok(())
}

impl From<TargetError> for ClusterError {
    fn from(e: TargetError) -> Self {
        ClusterError::Files(e.into())
    }
}

/// The mode for a directory that is there already: what the snapshot does not have goes.
pub const OVER: RestoreMode = RestoreMode::Delta(Extras::Delete);

#[cfg(test)]
mod tests {
    use super::*;

    fn recovery(goal: Goal) -> Recovery {
        let restore_command = "/usr/bin/backstay wal get --source 'it''s' %f %p".to_owned();
        let (edge, arrival, archiving) = (Edge::Exclusive, Arrival::Pause, Archiving::Off);
        Recovery { goal, edge, timeline: 2, arrival, archiving, reads_ahead: true, restore_command }
    }

    #[test]
    fn settings_of_another_recovery_go_and_all_others_stay() {
        let before =
            "# note\nwork_mem = '1GB'\nrecovery_target_xid = '7'\n  restore_command = 'rm'\nprimary_conninfo = 'x'\n";
        let after = settings(before, &recovery(Goal::Lsn(Lsn(0x300_0060))));
        assert_eq!(
            after,
            "# note\nwork_mem = '1GB'\nrestore_command = '/usr/bin/backstay wal get --source ''it''''s'' %f %p'\n\
             recovery_target_lsn = '0/3000060'\nrecovery_target_inclusive = 'off'\nrecovery_target_timeline = '2'\n\
             recovery_target_action = 'pause'\narchive_mode = 'off'\n"
        );
        let latest = settings("", &recovery(Goal::Latest));
        assert!(!latest.contains("recovery_target_action") && !latest.contains("inclusive"), "{latest}");
        let before_a_gap = settings("", &Recovery { reads_ahead: false, ..recovery(Goal::Immediate) });
        assert!(before_a_gap.contains("recovery_prefetch = 'off'\n") && !latest.contains("prefetch"), "{before_a_gap}");
    }

    #[test]
    fn links_of_a_forged_snapshot_lead_nowhere() {
        let facts = serde_json::json!({
            "v": 1, "system": "7", "version": 150000, "timeline": 1, "start": "0/2000028", "stop": "0/3000000",
            "stopped": "2026-11-20T18:00:00Z", "segment_bytes": 1 << 24, "checksums": true, "standby": false,
            "data_directory": "/d", "tablespaces": [], "configuration": [], "settings": [], "backup_label": "label",
            "control": "Zg==", "databases": [], "extensions": [], "tables": [],
        });
        let facts: Facts = serde_json::from_value(facts).expect("facts");
        for name in
            ["global", "pg_tblspc", "pg_wal", "postgresql.auto.conf", "backup_label.backstay-tmp", "backup_label"]
        {
            let dir = tempfile::tempdir().expect("a directory");
            let (target, outside) = (dir.path().join("target"), dir.path().join("outside"));
            for made in [&target, &outside, &target.join("global"), &target.join("pg_tblspc")] {
                std::fs::create_dir(made).expect("made");
            }
            std::fs::write(outside.join("secret"), "password").expect("written");
            let to = if target.join(name).extension().is_some() { outside.join("secret") } else { outside.clone() };
            std::fs::remove_dir(target.join(name)).ok();
            symlink(&to, target.join(name)).expect("linked");
            let plan = ClusterPlan {
                target: target.clone(),
                tablespaces: vec![],
                mode: RestoreMode::NewTarget,
                recovery: recovery(Goal::Immediate),
            };
            let done = plan.arm(&facts).is_ok();
            assert_eq!(done, name.starts_with("backup_label"), "{name}");
            let left: Vec<_> =
                std::fs::read_dir(&outside).expect("listed").map(|e| e.expect("listed").file_name()).collect();
            assert_eq!(left, ["secret"], "{name}");
            assert_eq!(std::fs::read_to_string(outside.join("secret")).expect("read"), "password", "{name}");
            let auto = std::fs::read_to_string(target.join("postgresql.auto.conf")).unwrap_or_default();
            assert!(name == "postgresql.auto.conf" || !auto.contains("password"), "{name}");
        }
    }

    #[test]
    fn values_cannot_leave_their_quotes() {
        assert_eq!(quoted(r"a'b\"), r"'a''b\\'");
    }
}

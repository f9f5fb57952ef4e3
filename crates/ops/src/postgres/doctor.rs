//! A look at a PostgreSQL server: whether it can be backed up as the configuration says, and what would have to be set.
//!
//! What it is for: `backstay doctor PLATFORM/SOURCE`: each thing is named, with what it is like and what to do about it; and
//! the settings that [`Examined::change`] makes when that is wanted.
//! What it may not know: terminals. Where data comes from and goes: questions in SQL, and this machine's directories, become
//! checks.

use super::Cluster;
use super::recover::shell_word;
use crate::config::{Method, PostgresSource, Wal};
use crate::ctx::Ctx;
use crate::doctor::{Check, Looking, Seen};
use crate::failure::{Exit, Failure};
use serde::Serialize;
use sources::postgres::control;
use sources::postgres::tools::Tools;
use sources::postgres::wire::{Connection, WireError, literal};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use store::Finding;

/// Supported majors.
const MAJORS: std::ops::RangeInclusive<u32> = 13..=18;
/// A quiet server archives nothing for longer than this, where `--fix` sets it.
const ARCHIVE_TIMEOUT: &str = "5min";
/// So much log for the sake of a slot is worth a word.
const SLOT_BYTES_MAX: u64 = 1 << 30;
/// Less room than this, in hundredths, is worth a word.
const FREE_PERCENT_MIN: u64 = 5;
/// A segment that waits longer to be archived is one that cannot be.
const ARCHIVE_SECS_MAX: i64 = 120;
/// Clocks that differ more make targets of a recovery surprising.
const CLOCK_SECS_MAX: f64 = 2.0;

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct SourceReport {
    /// Platform and source.
    pub source: String,
    /// Everything that was looked at, in order.
    pub checks: Vec<Check>,
    /// How many problems there are.
    pub problems: usize,
    /// How many warnings.
    pub warnings: usize,
    /// Settings of the server that would have to be others.
    pub changes: Vec<Change>,
    /// How the program ends: why the server cannot be asked, 4 for other problems, 3 for warnings.
    #[serde(skip)]
    pub exit: Exit,
}

/// A setting of the server that should be another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its name.
    pub setting: &'static str,
    /// What it is.
    pub is: String,
    /// What it should be.
    pub wanted: String,
    /// Whether it holds only after a restart.
    pub needs_restart: bool,
}

impl Change {
    /// The statement that makes it.
    pub fn statement(&self) -> String {
        format!("alter system set {} = {}", self.setting, literal(&self.wanted))
    }
}

/// A server that was looked at.
pub struct Examined {
    /// What was found.
    pub report: SourceReport,
    connection: Option<Connection>,
}

impl Examined {
    /// Makes the changes, and has the server read its configuration. Those that need a restart hold after it.
    ///
    /// # Errors
    /// `source-refused` when the role may not; what was changed before stays.
    pub fn change(&mut self) -> Result<(), Failure> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        for change in &self.report.changes {
            connection.query(&change.statement())?;
        }
        if !self.report.changes.is_empty() {
            connection.query("select pg_reload_conf()")?;
        }
        Ok(())
    }
}

/// Looks. `program` is how this program is called from elsewhere, word by word.
pub fn examine(ctx: &Ctx, cluster: &Cluster, source: &PostgresSource, program: &[String]) -> Examined {
    let mut looking = Looking::default();
    let mut changes = Vec::new();
    let mut connection = None;
    match Connection::open(&cluster.server, &ctx.world.stop) {
        Err(e) => looking.fail("connection", e.into()),
        Ok(open) => {
            let mut look =
                Look { ctx, cluster, source, program, connection: open, looking: &mut looking, changes: &mut changes };
            if let Err(e) = look.all() {
                let failure = Failure::from(e);
                looking.fail("connection", failure);
            } else {
                connection = Some(look.connection);
            }
        }
    }
    let Seen { checks, problems, warnings, exit } = looking.seen();
    let report = SourceReport { source: cluster.name.clone(), checks, problems, warnings, changes, exit };
    Examined { report, connection }
}

struct Look<'a> {
    ctx: &'a Ctx,
    cluster: &'a Cluster,
    source: &'a PostgresSource,
    program: &'a [String],
    connection: Connection,
    looking: &'a mut Looking,
    changes: &'a mut Vec<Change>,
}

type Looked = Result<(), WireError>;

impl Look<'_> {
    fn all(&mut self) -> Looked {
        let version = self.show("server_version")?;
        let number: u32 = self.show("server_version_num")?.parse().unwrap_or_default();
        let major = number / 10_000;
        let told = format!("PostgreSQL {version} answers as {}", self.cluster.server.user);
        self.looking.add(match MAJORS.contains(&major) {
            true => Finding::ok("connection", told),
            false => {
                Finding::warning("connection", told, "versions 13 to 18 are the ones that backups are tested with")
            }
        });
        self.clock()?;
        self.rights(major)?;
        self.tools(major);
        if self.source.physical.is_some() {
            self.files()?;
            self.settings()?;
            self.archiver()?;
        }
        self.checksums()?;
        self.slots()?;
        self.pending()
    }

    /// What a setting is; nothing where there is none, or the role may not see it.
    fn show(&mut self, setting: &str) -> Result<String, WireError> {
        let name = literal(setting);
        let sql = format!(
            "select case when exists (select from pg_settings where name = {name}) then current_setting({name}, true) end"
        );
        Ok(self.connection.value(&sql)?.unwrap_or_default())
    }

    fn clock(&mut self) -> Looked {
        let before = self.ctx.world.clock.now();
        let theirs = self.connection.value("select extract(epoch from clock_timestamp())")?;
        let after = self.ctx.world.clock.now();
        let seconds = |at: store::Timestamp| at.0 as f64 / 1e9;
        let ours = (seconds(before) + seconds(after)) / 2.0;
        let theirs: f64 = theirs.and_then(|text| text.parse().ok()).unwrap_or_default();
        let off = theirs - ours;
        self.looking.add(match off.abs() <= CLOCK_SECS_MAX {
            true => Finding::ok("clock", "the server's clock and this machine's agree"),
            false => Finding::warning(
                "clock",
                format!("the server's clock is {off:.0} s ahead of this machine's"),
                "have both follow a time server: times to restore to are the server's",
            ),
        });
        Ok(())
    }

    fn rights(&mut self, major: u32) -> Looked {
        const NAME: &str = "rights";
        let user = self.cluster.server.user.clone();
        let is_super = self.connection.value("select rolsuper from pg_roles where rolname = current_user")?;
        if is_super.as_deref() == Some("t") {
            self.looking.add(Finding::ok(NAME, format!("{user} is a superuser")));
            return Ok(());
        }
        let mut lacking = Vec::new();
        let replicates = self.connection.value("select rolreplication from pg_roles where rolname = current_user")?;
        if self.source.physical.is_some() && !self.is_here()? {
            // Its files come from the server.
            if replicates.as_deref() != Some("t") {
                let local = format!("grant pg_read_all_settings to {user}, where its directory is here");
                lacking.push(format!("alter role {user} replication; or {local}"));
            }
        } else if self.source.physical.is_some() {
            let start =
                if major >= 15 { "pg_backup_start(text, boolean)" } else { "pg_start_backup(text, boolean, boolean)" };
            let stop = if major >= 15 { "pg_backup_stop(boolean)" } else { "pg_stop_backup(boolean, boolean)" };
            for function in [start, stop, "pg_control_system()"] {
                let may = format!("select has_function_privilege({}, 'execute')", literal(function));
                if self.connection.value(&may)?.as_deref() != Some("t") {
                    lacking.push(format!("grant execute on function {function} to {user}"));
                }
            }
            let reads = "select pg_has_role('pg_read_all_settings', 'member')";
            if self.connection.value(reads)?.as_deref() != Some("t") {
                lacking.push(format!("grant pg_read_all_settings to {user}"));
            }
        }
        if self.source.logical.is_some() || !self.source.dumps.is_empty() {
            let unreadable = self.connection.value(
                "select count(*) from pg_class where relkind in ('r', 'm', 'p', 'S') and relpersistence <> 't' \
                 and relnamespace::regnamespace::text !~ '^(pg_|information_schema)' and not has_table_privilege(oid, 'select')",
            )?;
            if let Some(count) = unreadable.filter(|count| count != "0") {
                lacking.push(format!("grant pg_read_all_data to {user} ({count} tables cannot be read)"));
            }
        }
        self.looking.add(match lacking.as_slice() {
            [] => Finding::ok(NAME, format!("{user} may do what it has to")),
            _ => Finding::problem(NAME, format!("{user} may not do all that it has to"), lacking.join("; ")),
        });
        Ok(())
    }

    fn tools(&mut self, major: u32) {
        let bin = self.cluster.bin.as_deref();
        let dumps = self.source.logical.is_some() || !self.source.dumps.is_empty();
        self.looking.add(match (Tools::find_client("pg_dump", major, bin), dumps) {
            (Ok(tools), _) if tools.major() == major => {
                Finding::ok("tools", format!("{} is of the server's version", tools.program("pg_dump").display()))
            }
            (Ok(tools), _) => {
                let what = format!(
                    "{} is of PostgreSQL {}, later than the server",
                    tools.program("pg_dump").display(),
                    tools.major()
                );
                Finding::warning("tools", what, format!("install the client programs of PostgreSQL {major}"))
            }
            (Err(e), true) => Finding::problem("tools", format!("no dump can be made: {e}"), ""),
            (Err(e), false) => Finding::warning("tools", format!("no table can be taken out of a backup: {e}"), ""),
        });
    }

    /// The data directory, as far as it is known.
    fn directory(&mut self) -> Result<Option<PathBuf>, WireError> {
        let said = match &self.cluster.data_directory {
            Some(dir) => dir.clone(),
            None => PathBuf::from(self.show("data_directory")?),
        };
        Ok(Some(said).filter(|dir| !dir.as_os_str().is_empty()))
    }

    /// Whether the files of a physical backup are read here, and do not come from the server.
    fn is_here(&mut self) -> Result<bool, WireError> {
        let readable = self.directory()?.is_some_and(|dir| std::fs::read(dir.join("global/pg_control")).is_ok());
        Ok(match self.cluster.method {
            Method::Local => true,
            Method::Remote => false,
            Method::Auto => readable,
        })
    }

    /// Whether the files are here, and room for the log.
    fn files(&mut self) -> Looked {
        const NAME: &str = "files";
        if !self.is_here()? {
            self.looking.add(Finding::ok(NAME, "they come from the server, by replication"));
            return Ok(());
        }
        // What is missing otherwise is said among the rights.
        let Some(said) = self.directory()? else { return Ok(()) };
        let system = self.connection.value("select system_identifier from pg_control_system()").ok().flatten();
        let read = std::fs::read(said.join("global/pg_control"));
        let dir = said.display();
        self.looking.add(match (read.as_deref().map(control::system), system) {
            (Err(e), _) => Finding::problem(
                NAME,
                format!("cannot read the data directory {dir}: {e}"),
                "run backups as the user that the server runs as, or leave out method = \"local\"",
            ),
            (Ok(Some(ours)), Some(theirs)) if ours.to_string() != theirs => Finding::problem(
                NAME,
                format!("{dir} belongs to another cluster than the one that answers"),
                "see host, port and data_directory in the configuration",
            ),
            (Ok(_), _) => Finding::ok(NAME, format!("{dir} can be read")),
        });
        for (name, dir) in [("space", said.clone()), ("space-log", said.join("pg_wal"))] {
            self.room(name, &dir);
        }
        Ok(())
    }

    fn room(&mut self, name: &'static str, dir: &Path) {
        let Ok(space) = rustix::fs::statvfs(dir) else { return };
        let percent = space.f_bavail.saturating_mul(100) / space.f_blocks.max(1);
        let gib = space.f_bavail.saturating_mul(space.f_frsize) >> 30;
        let what = format!("{gib} GiB, {percent} %, are free at {}", dir.display());
        self.looking.add(match percent >= FREE_PERCENT_MIN {
            true => Finding::ok(name, what),
            false => Finding::warning(name, what, "a server whose log has no room stops: make some"),
        });
    }

    fn settings(&mut self) -> Looked {
        let level = self.show("wal_level")?;
        let enough = matches!(level.as_str(), "replica" | "logical");
        let wanted = ("wal_level", level.as_str(), "replica");
        self.setting(enough, wanted, true, "a log of this level cannot be replayed");
        if self.source.physical.as_ref().is_none_or(|physical| physical.wal != Wal::Continuous) {
            return Ok(());
        }
        let slot = self.cluster.receiving.slot.clone();
        let receives =
            format!("select count(*) from pg_replication_slots where active and slot_name = {}", literal(&slot));
        if self.connection.value(&receives)?.as_deref() == Some("1") && self.show("archive_mode")? == "off" {
            self.looking.add(Finding::ok("archiving", format!("the log is received by the slot {slot}")));
            return Ok(());
        }
        let mode = self.show("archive_mode")?;
        let on = matches!(mode.as_str(), "on" | "always");
        self.setting(on, ("archive_mode", &mode, "on"), true, "nothing is archived");
        self.command()?;
        let timeout = self.show("archive_timeout")?;
        let wanted = ("archive_timeout", timeout.as_str(), ARCHIVE_TIMEOUT);
        if timeout == "0" {
            self.wants(wanted, false);
            self.looking.add(Finding::warning(
                "archive_timeout",
                "it is 0: what a quiet server did last is not archived until a segment is full",
                format!("set it to {ARCHIVE_TIMEOUT} (--fix)"),
            ));
        } else {
            self.looking.add(Finding::ok("archive_timeout", format!("it is {timeout}")));
        }
        Ok(())
    }

    fn wants(&mut self, (setting, is, wanted): (&'static str, &str, &str), needs_restart: bool) {
        let (is, wanted) = (is.to_owned(), wanted.to_owned());
        self.changes.push(Change { setting, is, wanted, needs_restart });
    }

    fn setting(&mut self, good: bool, change: (&'static str, &str, &str), needs_restart: bool, price: &str) {
        let (name, is, wanted) = change;
        if good {
            return self.looking.add(Finding::ok(name, format!("it is {is}")));
        }
        self.wants(change, needs_restart);
        let restart = if needs_restart { ", and restart the server" } else { "" };
        let help = format!("set it to {wanted} (--fix){restart}");
        self.looking.add(Finding::problem(name, format!("it is {is}: {price}"), help));
    }

    /// Whether the server archives by this program, into this source.
    fn command(&mut self) -> Looked {
        const NAME: &str = "archive_command";
        let is = self.show(NAME)?;
        let library = self.show("archive_library")?;
        if !library.is_empty() {
            let what = format!("archive_library is {library}: archive_command is not used");
            self.looking.add(Finding::problem(NAME, what, "alter system set archive_library = ''"));
            return Ok(());
        }
        let mut words: Vec<String> = self.program.iter().map(|word| shell_word(word)).collect();
        words.extend(["wal", "push", "--source"].map(str::to_owned));
        words.push(shell_word(&self.cluster.name));
        words.push("%p".to_owned());
        let wanted = words.join(" ");
        if is.is_empty() || is == "(disabled)" {
            self.setting(false, (NAME, "not set", &wanted), false, "nothing is archived");
            return Ok(());
        }
        let ours = is.contains("wal push") && is.contains(&self.cluster.name) && is.contains("%p");
        let program = is.split_whitespace().next().unwrap_or_default().trim_matches(['\'', '"']);
        let missing = program.starts_with('/') && !is_program(Path::new(program));
        self.looking.add(match (ours, missing) {
            (false, _) => Finding::problem(
                NAME,
                format!("it is {is:?}, which does not archive to {}", self.cluster.name),
                format!("when nothing else needs it: alter system set archive_command = {}", literal(&wanted)),
            ),
            (true, true) => Finding::problem(
                NAME,
                format!("there is no program {program}"),
                format!("alter system set archive_command = {}", literal(&wanted)),
            ),
            (true, false) => Finding::ok(NAME, format!("it archives to {}", self.cluster.name)),
        });
        Ok(())
    }

    fn archiver(&mut self) -> Looked {
        const NAME: &str = "archiving";
        if !matches!(self.show("archive_mode")?.as_str(), "on" | "always") {
            return Ok(());
        }
        let [last, seconds, failed, fails] = self.connection.row(
            "select last_archived_wal, extract(epoch from clock_timestamp() - last_archived_time)::bigint, \
             case when last_failed_time > coalesce(last_archived_time, '-infinity') then last_failed_wal end, failed_count \
             from pg_stat_archiver",
        )?;
        let failures =
            fails.filter(|count| count != "0").map(|count| format!(", {count} failures so far")).unwrap_or_default();
        // A command that ends with more than 125, as one that is not there does, is not counted among the failures. Not every
        // role may look.
        let waiting = self.connection.row(
            "select count(*), coalesce(extract(epoch from clock_timestamp() - min(modification)), 0)::bigint \
             from pg_ls_archive_statusdir() where name like '%.ready'",
        );
        let [count, oldest] = waiting.unwrap_or_default();
        let oldest: i64 = oldest.and_then(|text| text.parse().ok()).unwrap_or_default();
        if oldest > ARCHIVE_SECS_MAX {
            let what = format!("{} segments wait to be archived, the first for {oldest} s", count.unwrap_or_default());
            self.looking.add(Finding::problem(
                NAME,
                what,
                "see the server's log; the segments stay there until it succeeds",
            ));
            return Ok(());
        }
        self.looking.add(match (failed, last) {
            (Some(wal), _) => Finding::problem(
                NAME,
                format!("the server cannot archive {wal}{failures}"),
                "see the server's log; the segments stay there until it succeeds",
            ),
            (None, Some(wal)) => {
                let seconds = seconds.unwrap_or_default();
                Finding::ok(NAME, format!("{wal} was archived {seconds} s ago{failures}"))
            }
            (None, None) => Finding::warning(
                NAME,
                "nothing has been archived since the statistics begin",
                "select pg_switch_wal(), and look again",
            ),
        });
        Ok(())
    }

    fn checksums(&mut self) -> Looked {
        let on = self.show("data_checksums")? == "on";
        self.looking.add(match on {
            true => Finding::ok("checksums", "pages have checksums, which every physical backup compares"),
            false => Finding::warning(
                "checksums",
                "pages have no checksums: damage on the disk is backed up unseen",
                "stop the server and run pg_checksums --enable",
            ),
        });
        Ok(())
    }

    fn slots(&mut self) -> Looked {
        const NAME: &str = "slots";
        let rows = self.connection.query(
            "select slot_name, active, wal_status, pg_wal_lsn_diff(case when pg_is_in_recovery() \
             then pg_last_wal_receive_lsn() else pg_current_wal_lsn() end, restart_lsn)::bigint from pg_replication_slots order by 1",
        )?;
        let count = rows.len();
        let mut bad = Vec::new();
        for row in rows {
            let [name, active, status, bytes] = <[Option<String>; 4]>::try_from(row).unwrap_or_default();
            let bytes: u64 = bytes.and_then(|bytes| bytes.parse().ok()).unwrap_or_default();
            let lost = status.as_deref() == Some("lost");
            if lost || (active.as_deref() == Some("f") && bytes > SLOT_BYTES_MAX) {
                let what =
                    if lost { "is lost".to_owned() } else { format!("is idle and holds {} MiB of log", bytes >> 20) };
                bad.push(format!("{} {what}", name.unwrap_or_default()));
            }
        }
        self.looking.add(match bad.is_empty() {
            true => Finding::ok(NAME, format!("{count} replication slots, and none holds much log without being used")),
            false => {
                Finding::warning(NAME, bad.join("; "), "when nobody needs it: select pg_drop_replication_slot('NAME')")
            }
        });
        Ok(())
    }

    /// Settings that somebody made and that do not hold yet.
    fn pending(&mut self) -> Looked {
        let rows = self.connection.query("select name from pg_settings where pending_restart order by 1")?;
        let names: Vec<String> = rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect();
        if !names.is_empty() {
            let what = format!("{} were changed and do not hold yet", names.join(", "));
            self.looking.add(Finding::warning("pending", what, "restart the server"));
        }
        Ok(())
    }
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_one_statement_whatever_is_in_it() {
        let change = Change {
            setting: "archive_command",
            is: String::new(),
            wanted: "'/opt/it'\\''s/backstay' wal push --source shop/db %p".into(),
            needs_restart: false,
        };
        let expect = "alter system set archive_command = '''/opt/it''\\''''s/backstay'' wal push --source shop/db %p'";
        assert_eq!(change.statement(), expect);
    }
}

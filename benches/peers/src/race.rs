//! The race: who runs what, in which order, and whether a time counts.
//!
//! What it may not know: how tools are called, how results are shown. Where data comes from and goes: workloads and
//! repositories in, samples out. A sample counts only when what was stored comes back right in the same round.

use crate::bucket::{Bucket, Requests};
use crate::same::same_trees;
use crate::tool::{Repository, Shelter, Snapshot, Tool, restored};
use crate::workload::{Kind, Pages, Workload};
use peers::timed::Cost;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Column {
    /// Of which workload.
    pub kind: Kind,
    /// What is done.
    pub step: Step,
}

/// What is done with a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Backup into an empty repository.
    First,
    /// Backup of what did not change.
    Unchanged,
    /// Backup after 1 % of the pages changed.
    Changed,
    /// Restore of the newest snapshot into an empty directory.
    Restore,
    /// Everything is read, decrypted and compared.
    Verify,
    /// Space is given back after the first snapshot was forgotten.
    Prune,
}

impl Step {
    /// Its name, for programs and for who watches.
    pub fn name(self) -> &'static str {
        match self {
            Step::First => "first",
            Step::Unchanged => "unchanged",
            Step::Changed => "changed",
            Step::Restore => "restore",
            Step::Verify => "verify",
            Step::Prune => "prune",
        }
    }

    /// What of stored bytes stands in the table, if anything.
    pub fn stored(self) -> Option<&'static str> {
        match self {
            Step::First => Some("in the repository"),
            Step::Unchanged | Step::Changed => Some("added"),
            Step::Prune => Some("left"),
            Step::Restore | Step::Verify => None,
        }
    }
}

/// The columns of a workload, in the order in which they are measured.
pub fn steps(kind: Kind) -> &'static [Step] {
    match kind {
        Kind::Tree => &[Step::First, Step::Unchanged, Step::Restore, Step::Verify],
        Kind::Pages => &[Step::First, Step::Changed, Step::Restore, Step::Verify, Step::Prune],
        Kind::Noise => &[Step::First],
    }
}

/// One measured command.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What it took.
    pub cost: Cost,
    /// Stored bytes, as [`Step::stored`] says.
    pub stored: Option<u64>,
    /// What was asked of the service, where there is one.
    pub requests: Requests,
}

/// All that was measured.
#[derive(Default)]
pub struct Results {
    /// One sample for each round.
    pub samples: BTreeMap<(Column, Tool), Vec<Sample>>,
    /// Why something does not count: one sentence each.
    pub failures: Vec<(Tool, String)>,
}

/// What is in the page cache when a command starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caches {
    /// What it will read was read just before.
    Warm,
    /// Nothing.
    Cold,
}

/// A race over one workload at a time.
pub struct Race<'a> {
    /// Who takes part, and with which program.
    pub entrants: &'a [(Tool, PathBuf)],
    /// Where everything is made and removed again.
    pub work: &'a Path,
    /// The state of the page cache.
    pub caches: Caches,
    /// Where repositories lie, when not in directories.
    pub bucket: Option<&'a Bucket>,
}

impl Race<'_> {
    /// Runs one round over a workload: every step by every tool, tools in another order at every step. `tell` hears of
    /// every command.
    ///
    /// # Errors
    /// When the workload cannot be changed or removed. What a tool does wrong is a failure in the results.
    pub fn round(
        &self,
        number: usize,
        workload: &Workload,
        results: &mut Results,
        tell: &dyn Fn(&str),
    ) -> Result<(), String> {
        let home = |tool: Tool| self.work.join("repositories").join(tool.name());
        let prefix = |tool: Tool| format!("{}/{}/{number}", tool.name(), workload.kind.name());
        let mut running: BTreeMap<Tool, Vec<(Column, Sample)>> = BTreeMap::new();
        for (tool, program) in self.entrants {
            remove(&home(*tool))?;
            let prefix = prefix(*tool);
            match Repository::new(*tool, program, &home(*tool), self.shelter(&prefix)).init() {
                Ok(()) => drop(running.insert(*tool, Vec::new())),
                Err(what) => results.failures.push((*tool, format!("init: {what}"))),
            }
        }
        for (place, step) in steps(workload.kind).iter().enumerate() {
            if *step == Step::Changed {
                workload.set_pages(Pages::Changed)?;
            }
            for (tool, program) in turned(self.entrants, number + place) {
                if !running.contains_key(tool) {
                    continue;
                }
                let prefix = prefix(*tool);
                let repository = Repository::new(*tool, program, &home(*tool), self.shelter(&prefix));
                match self.step(*step, &repository, &prefix, workload) {
                    Ok(sample) => {
                        tell(&format!(
                            "{:6} {step:9?} {:8} {}",
                            workload.kind.name(),
                            tool.name(),
                            short(&sample.cost)
                        ));
                        let column = Column { kind: workload.kind, step: *step };
                        running.entry(*tool).or_default().push((column, sample));
                    }
                    Err(what) => {
                        tell(&format!("{} {what}", about(workload.kind, *step, *tool)));
                        results.failures.push((*tool, format!("{} {}: {what}", workload.kind.name(), step.name())));
                        running.remove(tool);
                    }
                }
            }
        }
        for (tool, program) in self.entrants {
            let prefix = prefix(*tool);
            let repository = Repository::new(*tool, program, &home(*tool), self.shelter(&prefix));
            // The tree was restored and compared on the way, after its last backup.
            let right = match running.contains_key(tool) && workload.kind != Kind::Tree {
                true => self.restore(&repository, workload).map(drop),
                false => Ok(()),
            };
            match right {
                Ok(()) => {
                    for (column, sample) in running.remove(tool).unwrap_or_default() {
                        results.samples.entry((column, *tool)).or_default().push(sample);
                    }
                }
                Err(what) => results.failures.push((*tool, format!("{}: {what}", workload.kind.name()))),
            }
            remove(&home(*tool))?;
        }
        if workload.kind == Kind::Pages {
            workload.set_pages(Pages::Original)?;
        }
        Ok(())
    }

    fn shelter<'p>(&'p self, prefix: &'p str) -> Shelter<'p> {
        self.bucket.map_or(Shelter::Directory, |bucket| Shelter::Bucket(bucket, prefix))
    }

    /// What a repository takes up.
    fn stored(&self, repository: &Repository<'_>, prefix: &str) -> Result<u64, String> {
        match self.bucket {
            None => bytes_in(&repository.place()),
            Some(bucket) => bucket.bytes_in(&format!("{prefix}/")),
        }
    }

    /// Runs it, and says what it took and what it asked. It has ended when what it wrote is on the disk: some tools wait for
    /// that, others leave it to the kernel and to whoever comes next.
    fn timed(&self, job: &peers::timed::Job) -> Result<(Cost, Requests), String> {
        let asked = || self.bucket.map(Bucket::take_requests).unwrap_or_default();
        asked();
        let mut cost = job.timed(self.work)?;
        let written = Instant::now();
        let synced = std::fs::File::open(self.work).and_then(|work| Ok(rustix::fs::syncfs(work)?));
        synced.map_err(|e| format!("{}: {e}", self.work.display()))?;
        cost.wall += written.elapsed().as_secs_f64();
        Ok((cost, asked()))
    }

    fn step(
        &self,
        step: Step,
        repository: &Repository<'_>,
        prefix: &str,
        workload: &Workload,
    ) -> Result<Sample, String> {
        let place = repository.place();
        let before = self.stored(repository, prefix)?;
        let ((cost, requests), stored) = match step {
            Step::First | Step::Unchanged | Step::Changed => {
                let which = if step == Step::First { Snapshot::First } else { Snapshot::Last };
                self.prepare(&workload.dir)?;
                let cost = self.timed(&repository.backup(which, &workload.dir))?;
                let after = self.stored(repository, prefix)?;
                (cost, Some(if step == Step::First { after } else { after.saturating_sub(before) }))
            }
            Step::Restore => (self.restore(repository, workload)?, None),
            Step::Verify => {
                self.prepare(&place)?;
                (self.timed(&repository.verify())?, None)
            }
            Step::Prune => {
                repository.forget_first()?;
                self.prepare(&place)?;
                let cost = self.timed(&repository.prune())?;
                (cost, Some(self.stored(repository, prefix)?))
            }
        };
        Ok(Sample { cost, stored, requests })
    }

    /// Restores what was stored last and compares it with what is there. A restored tree stays until the workload is
    /// done: ext4 gives no inode out again for minutes after a file was deleted, and looking for others takes time, so
    /// that who restores after an `rm -r` would be the slower for it.
    fn restore(&self, repository: &Repository<'_>, workload: &Workload) -> Result<(Cost, Requests), String> {
        let restored_trees = self.restored_trees();
        std::fs::create_dir_all(&restored_trees).map_err(|e| format!("{}: {e}", restored_trees.display()))?;
        let number = std::fs::read_dir(&restored_trees).map_err(|e| e.to_string())?.count();
        let target = restored_trees.join(number.to_string());
        std::fs::create_dir(&target).map_err(|e| format!("{}: {e}", target.display()))?;
        let which = if steps(workload.kind).len() > 1 { Snapshot::Last } else { Snapshot::First };
        let job = repository.restore(which, &target)?;
        self.prepare(&repository.place())?;
        let cost = self.timed(&job)?;
        let right = same_trees(&workload.dir, &restored(&target, &workload.dir));
        if workload.kind != Kind::Tree {
            remove(&target)?;
        }
        right.map_err(|what| format!("restored wrongly: {what}"))?;
        Ok(cost)
    }

    fn restored_trees(&self) -> PathBuf {
        self.work.join("restored")
    }

    /// Removes the workload and all that was restored of it.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn finish(&self, workload: &Workload) -> Result<(), String> {
        remove(&self.restored_trees())?;
        remove(&workload.dir)
    }

    /// Brings the page cache into its state, with nothing left to be written and everything else forgotten: who comes when
    /// memory is full of what others wrote would pay for making room.
    fn prepare(&self, reads: &Path) -> Result<(), String> {
        rustix::fs::sync();
        std::fs::write("/proc/sys/vm/drop_caches", "3").map_err(|e| format!("drop_caches (root may): {e}"))?;
        // What lies in a bucket is the service's to keep warm.
        if self.caches == Caches::Cold || !reads.exists() {
            return Ok(());
        }
        let read = |path: &Path| {
            std::fs::File::open(path).and_then(|mut file| std::io::copy(&mut file, &mut std::io::sink())).map(drop)
        };
        for (_, program) in self.entrants {
            read(program).map_err(|e| format!("{}: {e}", program.display()))?;
        }
        every_file(reads, &mut |path, _| read(path))
    }
}

fn about(kind: Kind, step: Step, tool: Tool) -> String {
    format!("{:5} {:9} {:8}", kind.name(), step.name(), tool.name())
}

fn short(cost: &Cost) -> String {
    let mebibytes = cost.peak_bytes >> 20;
    format!("{:7.2} s {:7.2} CPU s {mebibytes:5} MiB  (others {:.2} CPU s)", cost.wall, cost.cpu, cost.others)
}

/// The entrants, beginning with another one.
fn turned<T>(entrants: &[T], by: usize) -> impl Iterator<Item = &T> {
    let (before, after) = entrants.split_at(by % entrants.len().max(1));
    after.iter().chain(before)
}

/// Removes a directory, if it is there.
///
/// # Errors
/// What could not be removed.
pub fn remove(dir: &Path) -> Result<(), String> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(format!("cannot remove {}: {e}", dir.display())),
        _ => Ok(()),
    }
}

/// Bytes of all files in a directory, as their lengths say.
fn bytes_in(dir: &Path) -> Result<u64, String> {
    let mut bytes = 0;
    every_file(dir, &mut |_, len| {
        bytes += len;
        Ok(())
    })?;
    Ok(bytes)
}

fn every_file(dir: &Path, visit: &mut dyn FnMut(&Path, u64) -> std::io::Result<()>) -> Result<(), String> {
    let mut waiting = vec![dir.to_owned()];
    let mut walk = || -> std::io::Result<()> {
        while let Some(dir) = waiting.pop() {
            for entry in std::fs::read_dir(&dir)? {
                let entry = entry?;
                let meta = entry.metadata()?;
                if meta.is_dir() {
                    waiting.push(entry.path());
                } else if meta.is_file() {
                    visit(&entry.path(), meta.len())?;
                }
            }
        }
        Ok(())
    };
    walk().map_err(|e| format!("cannot read {}: {e}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_begins_once() {
        let first = |by| *turned(&[1, 2, 3], by).next().unwrap();
        assert_eq!([first(0), first(1), first(2), first(3)], [1, 2, 3, 1]);
        assert_eq!(turned(&[1, 2, 3], 1).copied().collect::<Vec<_>>(), [2, 3, 1]);
    }
}

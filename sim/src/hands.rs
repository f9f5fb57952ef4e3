//! What people and programs do with a repository, as the command line would: each job a process of its own.
//!
//! It may not know which faults strike. Jobs tell the [`Model`] what they are about to do and what they were told.

use crate::model::{Files, Gone, Model, Seen, Segment};
use crate::site::SimStore;
use crate::turnstile::{End, Seat};
use repo::ledger::{Appended, SegmentName};
use repo::retain::{Civil, Count, Point, Policy, Verdict, decide};
use repo::{
    Act, Annotation, Assurance, Basis, Bundle, CapturePlan, ChunkId, Compression, Credential, Depth, Entry, FileNode,
    Grace, Life, MaxUnused, Node, Outcome, PackSize, Process, PrunePlan, PruneReport, RepoError, Repository, Result,
    Role, Share, Snapshot, VerifyPlan, Want, replicate,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use store::{Clock, Store, Timestamp};

/// Whom this host knows to be dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Processes of its own host.
    Own,
    /// Processes of every host: an operator who looked.
    All,
}

/// What a cache remembers of the last run.
struct Cache {
    basis: Basis,
    files: BTreeMap<String, (Vec<u8>, Vec<ChunkId>)>,
}

/// One host, with what it remembers between processes.
pub struct Hands {
    /// Where it sits.
    pub seat: Seat,
    /// Its key.
    pub key: Bundle,
    /// The model.
    pub model: Arc<Mutex<Model>>,
    /// Whom it knows to be dead.
    pub sight: Sight,
    cache: Option<Cache>,
}

/// How a job went.
pub type Done<T> = std::result::Result<Result<T>, End>;

impl Hands {
    /// A host that never did anything.
    pub fn new(seat: &Seat, key: &Bundle, model: &Arc<Mutex<Model>>, sight: Sight) -> Hands {
        let (seat, key, model) = (seat.clone(), key.clone(), Arc::clone(model));
        Hands { seat, key, model, sight, cache: None }
    }

    /// The model.
    pub fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one job as a process. What fails is counted, and a panic is a violation.
    pub fn job<T>(&mut self, what: &str, work: impl FnOnce(&mut Hands) -> Result<T>) -> Done<T> {
        let seat = self.seat.clone();
        seat.note(&format!("begins: {what}"));
        let done = seat.process(|| work(self));
        match &done {
            Ok(Ok(_)) => seat.note(&format!("ends: {what}")),
            Ok(Err(e)) => {
                seat.note(&format!("fails: {what}: {e}"));
                self.model().failed(what, e);
            }
            Err(End::Crashed) => {}
            Err(End::Panicked(said)) => self.model().violation(format!("{what} panicked: {said}")),
        }
        done
    }

    fn process(&self, command: &str) -> Process {
        let (host, pid) = self.seat.process_now();
        Process { host, pid, started: u64::from(pid), boot: "boot".into(), command: command.into() }
    }

    fn life(&self, process: &Process) -> Life {
        let (host, _) = self.seat.process_now();
        match process.host == host || self.sight == Sight::All {
            true if self.seat.with(|site| site.alive.contains(&process.pid)) => Life::Alive,
            true => Life::Dead,
            false => Life::Unknown,
        }
    }

    /// The store at a place.
    pub fn store(&self, place: usize) -> Store {
        SimStore::store(&self.seat, place)
    }

    /// Opens the repository, and compares it with what was seen of it.
    pub fn open(&mut self) -> Result<Repository> {
        let repository = self.open_at(0)?;
        let seen = self.model().seen.clone();
        let tips = repository.check_history(&seen)?.tips;
        self.model().seen = tips;
        Ok(repository)
    }

    /// Opens the repository or a copy of it.
    pub fn open_at(&self, place: usize) -> Result<Repository> {
        Repository::open(&self.store(place), &self.seat.world(), &Credential::Bundle(Box::new(self.key.clone())))
    }

    /// Makes the repository, with the key at hand.
    pub fn init(&mut self) -> Result<()> {
        Repository::init_for(&self.store(0), &self.seat.world(), &self.key, None, PackSize::Bytes(4096))?;
        let key = self.key.clone();
        self.model().owners.push(key);
        Ok(())
    }

    /// Makes the repository, with a new key.
    pub fn init_anew(&mut self) -> Result<()> {
        self.key = Bundle::owner(&self.seat.world(), "o");
        self.init()
    }

    /// Gives up what is lost of the history.
    pub fn accept_loss(&mut self) -> Result<()> {
        self.open()?.accept_loss().map(drop)
    }

    /// Backs up `files` under `label`.
    pub fn back_up(&mut self, label: &str, files: &Files, errors: u64) -> Result<()> {
        let repository = self.open()?;
        // The source was looked at long before the clock of this process says so.
        let time = Timestamp(1_600_000_000_000_000_000 + i128::from(label.len() as u32) * 1_000_000_000);
        self.model().begins(label, files, time, errors);
        let plan = CapturePlan {
            host: self.seat.process_now().0,
            user: "u".into(),
            kind: "files".into(),
            paths: vec!["/d".into()],
            tags: vec![label.to_owned()],
            source: None,
            reason: None,
            assurance: Assurance::default(),
            program: "sim".into(),
            process: self.process("backup"),
            compression: Compression::Off,
            time: Some(time),
        };
        let mut capture = repository.capture(plan)?;
        let mut kept = BTreeMap::new();
        let cache = self.cache.take();
        let trusted = cache.as_ref().is_some_and(|cache| capture.trusts(&cache.basis));
        for (name, data) in files {
            let known = cache.as_ref().and_then(|cache| cache.files.get(name)).filter(|(old, _)| old == data);
            let reused = match known {
                Some((_, ids)) if trusted => capture.reuse_unchecked(ids).map(|()| true)?,
                Some((_, ids)) => capture.reuse(ids)?,
                None => false,
            };
            if !reused && !data.is_empty() {
                let cut = capture.cutter().whole(data.clone());
                capture.chunk(cut)?;
            }
            let ids = capture.pending().to_vec();
            let file = FileNode { size: data.len() as u64, chunks: ids.len() as u64, digest: None, extents: None };
            capture.entry(&entry(name, Node::File(file)))?;
            kept.insert(name.clone(), (data.clone(), ids));
        }
        let done = capture.commit(Outcome { errors, ..Outcome::default() })?;
        self.cache = Some(Cache { basis: done.basis, files: kept });
        self.model().committed(label, done.snapshot.id);
        self.remember(&repository);
        Ok(())
    }

    /// Remembers the heads that are there now, so that their loss is noticed; best effort, as the command line does.
    fn remember(&self, repository: &Repository) {
        let seen = self.model().seen.clone();
        if let Ok(history) = repository.check_history(&seen) {
            self.model().seen = history.tips;
        }
    }

    /// Forgets what `which` chooses of the labels that are there.
    pub fn forget(&mut self, which: impl Fn(&str) -> bool) -> Result<()> {
        let repository = self.open()?;
        let snapshots = repository.snapshots()?;
        self.forget_of(&repository, &snapshots, which)
    }

    fn forget_of(&self, repository: &Repository, all: &[Snapshot], which: impl Fn(&str) -> bool) -> Result<()> {
        let chosen: Vec<&Snapshot> = all.iter().filter(|snapshot| which(&label(snapshot))).collect();
        let labels: Vec<String> = chosen.iter().map(|snapshot| label(snapshot)).collect();
        let ids: Vec<_> = chosen.iter().map(|snapshot| snapshot.id).collect();
        self.model().forgets(&labels, Gone::Perhaps);
        repository.forget(&ids)?;
        self.model().forgets(&labels, Gone::Yes);
        self.remember(repository);
        Ok(())
    }

    /// Applies a policy that keeps the last `last`: so many of the newest complete ones stay, whatever else came after.
    pub fn retain(&mut self, last: u32) -> Result<()> {
        let repository = self.open()?;
        let snapshots = repository.snapshots()?;
        let points: Vec<Point> = snapshots.iter().map(point).collect();
        let policy = Policy { last: Some(Count::Last(last)), ..Policy::default() };
        let now = Clock::now(&self.seat);
        let verdicts = decide(&points, &policy, now).map_err(|e| RepoError::Limit(e.to_string()))?;
        let goes = |snapshot: &&Snapshot| {
            verdicts.iter().any(|(id, verdict)| *id == snapshot.id.0 && matches!(verdict, Verdict::Remove(_)))
        };
        let newest = snapshots.iter().rev().filter(|snapshot| snapshot.public.status == repo::Status::Complete);
        if let Some(lost) = newest.take(last as usize).find(goes) {
            self.model().violation(format!("a policy that keeps the last {last} lets {} go", label(lost)));
        }
        let chosen: Vec<String> = snapshots.iter().filter(goes).map(label).collect();
        self.forget_of(&repository, &snapshots, |label| chosen.iter().any(|chosen| chosen == label))
    }

    /// Prunes.
    pub fn prune(&mut self, max_unused: MaxUnused) -> Result<PruneReport> {
        let repository = self.open()?;
        let report = self.prune_at(&repository, max_unused, Act::Do)?;
        self.remember(&repository);
        Ok(report)
    }

    /// Prunes a repository that is open.
    pub fn prune_at(&self, repository: &Repository, max_unused: MaxUnused, act: Act) -> Result<PruneReport> {
        let life = |process: &Process| self.life(process);
        let process = self.process("prune");
        let plan = PrunePlan { act, max_unused, grace: Grace::Default, life: &life, process, as_if_forgotten: &[] };
        repository.prune(&plan, &|_| {})
    }

    /// Verifies a place, and says how many problems there are.
    pub fn verify(&mut self, place: usize, depth: Depth) -> Result<usize> {
        let repository = if place == 0 { self.open()? } else { self.open_at(place)? };
        let plan = VerifyPlan { depth, share: Share::All, snapshots: None, process: self.process("verify") };
        let report = repository.verify(&plan, &|_| {})?;
        let mut model = self.model();
        if !model.broken {
            // Who enrols puts two copies of a certificate, one after the other: in between there is one.
            let halfway = |problem: &&repo::VerifyProblem| problem.what.ends_with("sound copies instead of 2");
            for problem in report.problems.iter().filter(|problem| self.sight == Sight::All || !halfway(problem)) {
                let (object, what) = (&problem.object, &problem.what);
                model.violation(format!("verify of place {place} finds what is not there: {object}: {what}"));
            }
        }
        Ok(report.problems.len())
    }

    /// Compares what a place shows and gives back with the model.
    pub fn check(&mut self, place: usize) -> Result<()> {
        let repository = self.open_at(place)?;
        let snapshots = repository.snapshots()?;
        let seen: Vec<Seen> = snapshots
            .iter()
            .map(|snapshot| Seen {
                label: label(snapshot),
                id: snapshot.id,
                time: snapshot.public.time.clone(),
                complete: snapshot.public.status == repo::Status::Complete,
            })
            .collect();
        self.model().check_visible(place, &seen);
        self.restore_all(place, &repository, &snapshots)
    }

    /// Restores every snapshot that is visible while others are at work.
    pub fn restore(&mut self, place: usize) -> Result<()> {
        let repository = if place == 0 { self.open()? } else { self.open_at(place)? };
        let process = self.process("restore");
        let reading = repository.reading(&process)?;
        let snapshots = repository.snapshots()?;
        for snapshot in &snapshots {
            let files = read(&reading, snapshot)?;
            self.model().check_restored(place, &label(snapshot), &files);
        }
        Ok(())
    }

    fn restore_all(&self, place: usize, repository: &Repository, snapshots: &[Snapshot]) -> Result<()> {
        let reading = repository.reading(&self.process("restore"))?;
        for snapshot in snapshots {
            match read(&reading, snapshot) {
                Ok(files) => self.model().check_restored(place, &label(snapshot), &files),
                Err(e) => {
                    let mut model = self.model();
                    if !model.broken {
                        model.violation(format!("place {place}: {} cannot be restored: {e}", label(snapshot)));
                    }
                }
            }
        }
        let ledger = repository.ledger("wal")?;
        let names: Vec<SegmentName> = self.model().segments.keys().copied().collect();
        for name in names.into_iter().filter(|_| place == 0) {
            match ledger.get(name) {
                Ok(got) => self.model().check_segment(name, got.as_ref()),
                Err(RepoError::Differs(_)) => self.check_two_histories(name),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn check_two_histories(&self, name: SegmentName) {
        let mut model = self.model();
        if model.segments.get(&name).is_some_and(|segment| segment.tried.len() < 2) {
            model.violation(format!("segment {name:?} has two histories, and one was appended"));
        }
    }

    /// Appends a segment.
    pub fn append(&mut self, number: u64, bytes: &[u8]) -> Result<()> {
        let repository = self.open()?;
        let name = SegmentName { timeline: 1, number };
        let known = {
            let mut model = self.model();
            let segment: &mut Segment = model.segments.entry(name).or_default();
            segment.tried.insert(bytes.to_vec());
            segment.kept.clone()
        };
        let appended = repository.ledger("wal")?.append(name, bytes)?;
        let mut model = self.model();
        // Where listings lag, the first may not show yet.
        if known.as_ref().is_some_and(|known| known != bytes) && !model.broken {
            model.violation(format!("a second history of {name:?} was taken ({appended:?})"));
        }
        if appended == Appended::Same && known.is_none() && model.segments[&name].tried.len() > 1 {
            let kept = model.segments[&name].kept.clone();
            if kept.is_some_and(|kept| kept != bytes) {
                model.violation(format!("{name:?} is called the same and differs"));
            }
        }
        if let Some(segment) = model.segments.get_mut(&name) {
            segment.kept = Some(bytes.to_vec());
        }
        Ok(())
    }

    /// Copies the repository to another place.
    pub fn copy(&mut self, to: usize) -> Result<()> {
        let standing = self.model().standing();
        replicate(&self.store(0), &self.store(to), &self.seat.world(), Act::Do, &|_| {})?;
        let mut model = self.model();
        if !model.broken {
            model.copied.entry(to).or_default().extend(standing);
        }
        Ok(())
    }

    /// Enrols a writer.
    pub fn enrol(&mut self, name: &str) -> Result<Bundle> {
        self.open()?.enrol(Role::Writer, name, None)
    }

    /// Notes something about every snapshot.
    pub fn annotate(&mut self, hold: Option<&str>) -> Result<()> {
        let repository = self.open()?;
        let snapshots = repository.snapshots()?;
        let hold = || Some(hold.map(str::to_owned));
        let note = |snapshot| Annotation { snapshot, tags: None, hold: hold(), verified: None };
        repository.annotate(&snapshots.iter().map(note).collect::<Vec<_>>())?;
        self.remember(&repository);
        Ok(())
    }

    /// Waits.
    pub fn sleep(&mut self, how_long: Duration) -> Result<()> {
        Clock::sleep(&self.seat, how_long);
        Ok(())
    }

    /// Mends what can be mended, from a copy where there is one.
    pub fn mend(&mut self, from: Option<usize>) -> Result<repo::MendReport> {
        let repository = self.open_at(0)?;
        let copy = from.map(|place| self.store(place));
        repository.mend(copy.as_ref(), &self.process("repair"), &|process| self.life(process))
    }
}

/// What retention is told of a snapshot.
fn point(snapshot: &Snapshot) -> Point {
    Point {
        id: snapshot.id.0,
        group: "all".to_owned(),
        order: snapshot.order,
        time: Timestamp(1_600_000_000_000_000_000),
        civil: Civil { year: 2020, month: 9, day: 13, hour: 12, iso_year: 2020, iso_week: 37 },
        tags: snapshot.tags.clone(),
        hold: snapshot.hold.clone(),
        complete: snapshot.public.status == repo::Status::Complete,
        verified: snapshot.verified.is_some(),
    }
}

/// The label under which a snapshot was made.
pub fn label(snapshot: &Snapshot) -> String {
    snapshot.public.tags.first().cloned().unwrap_or_default()
}

fn read(reading: &repo::Reading<'_>, snapshot: &Snapshot) -> Result<Files> {
    let reader = reading.open(snapshot)?;
    let mut files = Files::new();
    for located in reader.entries(b"") {
        let located = located?;
        let Node::File(file) = &located.entry.node else {
            return Err(RepoError::damaged("an entry", "is no file: only files were stored"));
        };
        let got = Mutex::new(Vec::new());
        for id in reader.ids(located.first, file.chunks)? {
            let want = Want { id, place: reader.locate(&id)?, tag: 0 };
            let failed = reader.fetch(&[want], &|_, data| {
                got.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(data);
                Ok(())
            })?;
            if let Some((_, e)) = failed.into_iter().next() {
                return Err(e);
            }
        }
        let name = String::from_utf8_lossy(&located.entry.key).into_owned();
        files.insert(name, got.into_inner().unwrap_or_else(PoisonError::into_inner));
    }
    Ok(files)
}

fn entry(name: &str, node: Node) -> Entry {
    Entry {
        key: name.as_bytes().to_vec(),
        node,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Timestamp::new(1, 0),
        xattrs: Vec::new(),
        user: None,
        group: None,
        changed: false,
        sqlite: false,
    }
}

/// Files of noise: `from` chooses them, so that overlapping choices share content.
pub fn files(from: u64, count: u64) -> Files {
    (from..from + count)
        .map(|n| {
            let mut data = vec![0; 200 + (n as usize * 397) % 1900];
            blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(&mut data);
            data.extend_from_slice(CANARY);
            (format!("d\0canary-{n:05}"), data)
        })
        .collect()
}

/// Stands in every file, and so in no object.
pub const CANARY: &[u8] = b"canary: this is never to be seen";

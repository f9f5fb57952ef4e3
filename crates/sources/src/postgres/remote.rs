//! Taking a cluster through its server, where its data directory is out of reach (PostgreSQL documentation, "Streaming
//! Replication Protocol", `BASE_BACKUP`).
//!
//! What it is for: the server sends its files as tar archives, in an order of its own. Content is stored as it comes; the entries
//! follow in their order when all of it is there. Nothing but the names of chunks is put on the disk meanwhile.
//! What it may not know: where the log is archived. Where data comes from and goes: a connection for replication, and one for
//! questions; files into a [`Capture`], log to whoever asked for it.

use super::base::{BaseError, BasePlan, Ending, Result, Survey, Tablespace, lsn};
use super::census::{columns, number};
use super::control::{self, CONTROL_BYTES};
use super::layout::{Again, Checker, Layout, Unlogged};
use super::pages::PAGE_BYTES;
use super::replication::{is_not_let_in, needs};
use super::tar::{BLOCK_BYTES, Kind, Member};
use super::wire::{Body, Connection, Row, WireError, literal, nonsense, refusal};
use super::{Lsn, wal};
use crate::files::{Captured, FilesReport, Moving, Problem, Progress, Remembered, Severity};
use crate::spill::Spill;
use repo::{Capture, Cutter, Entry, FileNode, Node, RepoError, Shape, WHOLE_BYTES_MAX, key_of_path};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use store::Timestamp;

/// The largest file that is kept in memory: labels, and segments of the log.
const KEPT_BYTES_MAX: u64 = wal::SEGMENT_BYTES_MAX;

/// Takes all files of the cluster into `into`.
pub(super) fn take(
    survey: &mut Survey,
    plan: &BasePlan,
    into: &mut Capture<'_>,
    log: &mut dyn FnMut(&str, &[u8]) -> bool,
    on: &(dyn Fn(Progress<'_>) + Sync),
) -> Result<(Ending, Captured)> {
    let because = survey.because().map(str::to_owned);
    let data = PathBuf::from(std::ffi::OsStr::from_bytes(&repo::unpercent_path(&survey.path())));
    let catalog = survey.connection.value("select catalog_version_no from pg_control_system()")?;
    let catalog: u32 = number(catalog)?;
    let directory = format!("PG_{}_{catalog}", survey.version / 10_000);
    let mode = survey.connection.value("select current_setting('data_directory_mode')")?;
    let mode = mode.and_then(|mode| u32::from_str_radix(&mode, 8).ok()).unwrap_or(0o700);
    let names = survey.connection.query("select oid, spcname from pg_tablespace")?;
    let why = because.map(|why| format!("{why}; and ")).unwrap_or_default();
    let mut stream = BaseStream::begin(survey, plan).map_err(|e| {
        let what = format!("{why}the server does not send its files: {e}");
        match &e {
            BaseError::Server(e) if is_not_let_in(e) => BaseError::NotLetIn { what, needs: needs(&plan.server) },
            BaseError::Server(WireError::Refused { .. }) => BaseError::Source(what),
            _ => e,
        }
    })?;
    let spaces = stream.spaces.iter().filter_map(|space| {
        let (oid, location) = space.as_ref()?;
        let name = names.iter().find(|row| row.first().is_some_and(|n| n.as_ref() == Some(&oid.to_string())));
        let name = name.and_then(|row| row.get(1)?.clone()).unwrap_or_default();
        let stored = repo::percent_path(format!("{}/{directory}", location.trim_end_matches('/')).as_bytes());
        Some(Tablespace { oid: *oid, name, location: location.clone(), stored })
    });
    let tablespaces: Vec<Tablespace> = spaces.collect();
    let key = |path: &[u8]| {
        let bad = || BaseError::Source(format!("{} cannot be stored", String::from_utf8_lossy(path)));
        key_of_path(path).ok_or_else(bad)
    };
    let data = key(data.as_os_str().as_bytes())?;
    let stored = |space: &Tablespace| key(&repo::unpercent_path(&space.stored));
    let layout = Layout::of(
        data.clone(),
        tablespaces.iter().map(stored).collect::<Result<_>>()?,
        (survey.checksums, stream.start),
        Unlogged::Absent,
    );
    let spill = Spill::create(&plan.scratch)
        .map_err(|e| BaseError::Source(format!("cannot write to {}: {e}", plan.scratch.display())))?;
    let mut taking = Taking {
        layout: &layout,
        server: &mut survey.connection,
        cutter: into.cutter(),
        into,
        on,
        entries: BTreeMap::new(),
        spill,
        report: FilesReport::default(),
        backup_label: None,
        control: None,
    };
    while let Some(space) = stream.next_archive()? {
        let root = match &space {
            None => data.clone(),
            Some((_, location)) => key(location.as_bytes())?,
        };
        let within = match &space {
            None => String::new(),
            Some((oid, _)) => format!("pg_tblspc/{oid}/"),
        };
        while let Some(member) = stream.next_member()? {
            taking.member(&mut stream, (&root, &within), member, log)?;
        }
    }
    let Taking { entries, spill, report, backup_label, control, .. } = taking;
    let control = control.filter(|bytes| bytes.len() == CONTROL_BYTES);
    let system = control.as_deref().and_then(control::system);
    let control = control.ok_or_else(|| BaseError::Source("the server sent no usable pg_control".into()))?;
    if system != Some(survey.system()) {
        let server = &plan.server;
        return Err(BaseError::Source(format!("what answers at {server} is not one server: the files are of another")));
    }
    let backup_label = backup_label.ok_or_else(|| BaseError::Source("the server sent no backup label".into()))?;
    let report = finish(into, (entries, spill), (&data, mode), report)?;
    // What was not used for hours may have been forgotten on the way.
    survey.connection = Connection::open(&plan.server, &plan.world.stop)?;
    let stopped = survey.connection.value("select clock_timestamp()")?;
    let (start, stop) = (stream.start, stream.stop()?);
    let ending = Ending { start, stop, stopped, backup_label, control, tablespaces };
    Ok((ending, Captured { report, cache: Remembered::Nothing }))
}

/// Gives the entries to the capture, in their order, with the directories that lead to them.
fn finish(
    into: &mut Capture<'_>,
    (mut entries, mut spill): (BTreeMap<Vec<u8>, (Entry, u64)>, Spill),
    (data, mode): (&[u8], u32),
    mut report: FilesReport,
) -> Result<FilesReport> {
    let Some((model, _)) = entries.values().next().cloned() else {
        return Err(BaseError::Source("the server sent no files".into()));
    };
    let root = Entry { key: data.to_vec(), node: Node::Dir, mode, ..model.clone() };
    entries.insert(data.to_vec(), (root, 0));
    let mut above: BTreeSet<Vec<u8>> = BTreeSet::new();
    for key in entries.keys() {
        let ends = key.iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(at, _)| &key[..at]);
        above.extend(ends.filter(|above| !entries.contains_key(*above)).map(<[u8]>::to_vec));
    }
    for key in above {
        // They only lead there: what they are on the server is not known.
        let entry = Entry { key: key.clone(), node: Node::Dir, mode: 0o755, uid: 0, gid: 0, ..model.clone() };
        entries.entry(key).or_insert((entry, 0));
    }
    for (entry, first) in entries.into_values() {
        if let Node::File(file) = &entry.node {
            let ids = spill.read(first, file.chunks).map_err(RepoError::from)?;
            if !into.reuse(&ids)? {
                return Err(BaseError::Source("what was stored a moment ago is not there any more".into()));
            }
        } else {
            report.dirs += 1;
        }
        into.entry(&entry)?;
    }
    Ok(report)
}

/// What is known of the files that came.
struct Taking<'a, 'r> {
    layout: &'a Layout,
    server: &'a mut Connection,
    cutter: Cutter,
    into: &'a mut Capture<'r>,
    on: &'a (dyn Fn(Progress<'_>) + Sync),
    /// Each with the place of its first chunk in the spill.
    entries: BTreeMap<Vec<u8>, (Entry, u64)>,
    spill: Spill,
    report: FilesReport,
    backup_label: Option<String>,
    control: Option<Vec<u8>>,
}

impl Taking<'_, '_> {
    /// Takes a member of an archive of what is at the path key `root`; the server knows it as what is `within` its data
    /// directory.
    fn member(
        &mut self,
        stream: &mut BaseStream,
        (root, within): (&[u8], &str),
        member: Member,
        log: &mut dyn FnMut(&str, &[u8]) -> bool,
    ) -> Result<()> {
        if within.is_empty() {
            match member.name.as_slice() {
                b"backup_label" => {
                    let label = String::from_utf8(stream.content(&member)?);
                    self.backup_label =
                        Some(label.map_err(|_| BaseError::Source("the backup label is no text".into()))?);
                    return Ok(());
                }
                b"global/pg_control" => {
                    self.control = Some(stream.content(&member)?);
                    return Ok(());
                }
                name => {
                    let segment = name.strip_prefix(b"pg_wal/").and_then(|name| std::str::from_utf8(name).ok());
                    if let Some(segment) = segment.filter(|name| wal::WalFile::parse(name).is_some()) {
                        let bytes = stream.content(&member)?;
                        let kept = log(segment, &bytes);
                        let failed = || BaseError::Source(format!("{segment} could not be stored"));
                        return kept.then_some(()).ok_or_else(failed);
                    }
                }
            }
        }
        let mut key = root.to_vec();
        let mut takes = true;
        for part in member.name.split(|byte| *byte == b'/') {
            if !key.is_empty() {
                key.push(0);
            }
            key.extend_from_slice(part);
            takes &= self.layout.takes(&key);
        }
        if !takes || member.kind == Kind::Link {
            return stream.skip(&member);
        }
        let (node, first) = match member.kind {
            Kind::File => self.file(stream, within, &key, &member)?,
            Kind::Directory | Kind::Link => (Node::Dir, 0),
        };
        let bytes = if let Node::File(file) = &node { file.size } else { 0 };
        (self.on)(Progress { entries: 1, bytes, path: Some(&repo::path_of_key(&key)) });
        let entry = Entry {
            key: key.clone(),
            node,
            mode: member.mode & 0o7777,
            uid: member.uid,
            gid: member.gid,
            mtime: Timestamp::new(member.changed_secs, 0),
            xattrs: Vec::new(),
            user: None,
            group: None,
            changed: false,
            sqlite: false,
        };
        self.entries.insert(key, (entry, first));
        Ok(())
    }

    /// Stores the content of a file as a local backup does, so that both find each other's chunks.
    fn file(&mut self, stream: &mut BaseStream, within: &str, key: &[u8], member: &Member) -> Result<(Node, u64)> {
        let Taking { layout, server, cutter, into, spill, report, .. } = self;
        let mut checker = layout.checker(key);
        let first = spill.len();
        let path = format!("{within}{}", String::from_utf8_lossy(&member.name));
        let mut look = |checker: &mut Option<Checker>, data: &[u8]| {
            if let Some(checker) = checker {
                checker.feed(data, &mut |at| page_again(server, &path, at));
            }
        };
        let mut file = FileNode { size: member.size, ..FileNode::default() };
        if member.size <= WHOLE_BYTES_MAX as u64 {
            let data = stream.content(member)?;
            look(&mut checker, &data);
            if !data.is_empty() {
                spill.push(&into.store_ahead(cutter.whole(data))?).map_err(RepoError::from)?;
                file.chunks = 1;
            }
        } else {
            let shape = if checker.is_some() { Shape::Pages } else { Shape::Stream };
            let mut content = Content { stream, left: member.size, failed: None };
            let measured = cutter.cut(shape, &mut content, &mut |cut| {
                look(&mut checker, &cut.data);
                Ok(spill.push(&into.store_ahead(cut)?)?)
            });
            if let Some(e) = content.failed {
                return Err(e.into());
            }
            let measured = measured?;
            stream.pad(member.size)?;
            file.chunks = measured.chunks;
            file.digest = (measured.chunks > 1).then_some(measured.digest);
        }
        report.files += 1;
        report.files_new += 1;
        report.bytes += member.size;
        report.bytes_read += member.size;
        if let Some(what) = checker.and_then(Checker::verdict) {
            report.problems.note(Problem { path: repo::path_of_key(key), what, severity: Severity::Error });
        }
        Ok((Node::File(file), first))
    }
}

/// Asks the server for a page of one of its files.
fn page_again(server: &mut Connection, path: &str, at: u64) -> Again {
    let path = literal(path);
    let question = format!("select encode(pg_read_binary_file({path}, {at}, {PAGE_BYTES}, true), 'hex')");
    let unknown = |e: &dyn std::fmt::Display| Again::Unknown(format!("{e}; pg_read_server_files would allow it"));
    let text = match server.value(&question) {
        Ok(Some(text)) => text,
        Ok(None) => return Again::Gone,
        Err(e) => return unknown(&e),
    };
    let digits = text.as_bytes().chunks_exact(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    });
    let bytes: Option<Vec<u8>> = digits.collect();
    match bytes.and_then(|bytes| <Box<[u8; PAGE_BYTES]>>::try_from(bytes.into_boxed_slice()).ok()) {
        Some(page) => Again::Page(page),
        // The file was cut off meanwhile.
        None => Again::Gone,
    }
}

/// Where a tablespace is: its number and its directory; none for the data directory.
type Space = Option<(u32, String)>;

/// The archives of a base backup as they come.
struct BaseStream {
    connection: Connection,
    /// Since version 15, all archives come in one stream, with messages that tell them apart.
    is_typed: bool,
    start: Lsn,
    spaces: Vec<Space>,
    /// Archives whose beginning was not told yet, where the messages do not tell them apart.
    coming: VecDeque<Space>,
    /// An archive that has begun, and was not told yet.
    begun: Option<Space>,
    /// What came and was not read.
    piece: Vec<u8>,
    at: usize,
    /// Rows of the answers to come.
    rows: Vec<Row>,
    ended: bool,
}

impl BaseStream {
    fn begin(survey: &Survey, plan: &BasePlan) -> Result<BaseStream> {
        let mut connection = Connection::open_for_replication(&plan.server, &plan.world.stop)?;
        let is_typed = survey.version >= 150_000;
        // Pages are compared here, and the log is waited for by whoever keeps it.
        let command = match (is_typed, plan.brings_log) {
            (true, log) => format!(
                "BASE_BACKUP (LABEL 'backstay', CHECKPOINT 'fast', WAIT false, VERIFY_CHECKSUMS false, WAL {log})"
            ),
            (false, true) => "BASE_BACKUP LABEL 'backstay' FAST WAL NOWAIT NOVERIFY_CHECKSUMS".to_owned(),
            (false, false) => "BASE_BACKUP LABEL 'backstay' FAST NOWAIT NOVERIFY_CHECKSUMS".to_owned(),
        };
        connection.ask(&command)?;
        let mut stream = BaseStream {
            connection,
            is_typed,
            start: Lsn::default(),
            spaces: Vec::new(),
            coming: VecDeque::new(),
            begun: None,
            piece: Vec::new(),
            at: 0,
            rows: Vec::new(),
            ended: false,
        };
        stream.start = lsn(stream.answer()?.into_iter().next().and_then(|row| row.into_iter().next().flatten()))?;
        for row in stream.answer()? {
            let [oid, location, _] = columns(row)?;
            let space = match (oid, location) {
                (Some(oid), Some(location)) => Some((number(Some(oid))?, location)),
                _ => None,
            };
            stream.spaces.push(space.clone());
            if !is_typed {
                stream.coming.push_back(space);
            }
        }
        Ok(stream)
    }

    /// The rows of one answer.
    fn answer(&mut self) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        loop {
            match self.connection.read()? {
                (b'D', body) => rows.push(row(&body)?),
                (b'C', _) => return Ok(rows),
                (b'T' | b'N' | b'S', _) => {}
                (b'E', body) => return Err(refusal(&body).into()),
                (other, _) => return Err(unexpected(other).into()),
            }
        }
    }

    /// Reads on until there is something to read, an archive begins, or all is over.
    fn advance(&mut self) -> std::result::Result<(), WireError> {
        while self.at == self.piece.len() && self.begun.is_none() && !self.ended {
            match self.connection.read()? {
                (b'd', body) if self.is_typed => self.typed(body)?,
                (b'd', body) => (self.piece, self.at) = (body, 0),
                (b'H', _) if self.is_typed => {}
                (b'H', _) => {
                    let space = self.coming.pop_front().ok_or_else(|| nonsense("one archive more than was told"))?;
                    self.begun = Some(space);
                }
                (b'D', body) => self.rows.push(row(&body)?),
                (b'E', body) => return Err(refusal(&body)),
                (b'Z', _) => self.ended = true,
                (b'c' | b'C' | b'T' | b'N' | b'S', _) => {}
                (other, _) => return Err(unexpected(other)),
            }
        }
        Ok(())
    }

    /// A message of a server that tells archives apart.
    fn typed(&mut self, mut body: Vec<u8>) -> std::result::Result<(), WireError> {
        match body.first() {
            Some(b'd') => {
                (self.piece, self.at) = (body, 1);
                Ok(())
            }
            Some(b'n') => {
                let name = body.drain(1..).take_while(|byte| *byte != 0).collect::<Vec<u8>>();
                let name = String::from_utf8_lossy(&name).into_owned();
                let oid = name.strip_suffix(".tar").and_then(|name| name.parse::<u32>().ok());
                let known = |space: &&Space| space.as_ref().map(|(oid, _)| *oid) == oid;
                let space = self.spaces.iter().find(known).filter(|_| oid.is_some() || name == "base.tar");
                self.begun = Some(space.cloned().ok_or_else(|| nonsense(&format!("an archive {name:?}")))?);
                Ok(())
            }
            // How far it is.
            Some(b'p') => Ok(()),
            _ => Err(nonsense("a message of another kind in its archive")),
        }
    }

    /// The next archive: what it is of.
    fn next_archive(&mut self) -> Result<Option<Space>> {
        loop {
            self.advance()?;
            if let Some(space) = self.begun.take() {
                return Ok(Some(space));
            }
            if self.ended {
                return Ok(None);
            }
            // Zeros behind the end of an archive.
            self.at = self.piece.len();
        }
    }

    /// The next member of the archive.
    fn next_member(&mut self) -> Result<Option<Member>> {
        let mut block = [0; BLOCK_BYTES];
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            match self.read_some(&mut block[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(nonsense("an archive that is cut off").into()),
                n => filled += n,
            }
        }
        let bad = |e: super::tar::BadHeader| BaseError::Server(nonsense(&e.to_string()));
        Member::parse(&block).map_err(bad)
    }

    /// Reads what there is; nothing where the archive ends.
    fn read_some(&mut self, into: &mut [u8]) -> std::result::Result<usize, WireError> {
        self.advance()?;
        let there = &self.piece[self.at..];
        let here = there.len().min(into.len());
        into[..here].copy_from_slice(&there[..here]);
        self.at += here;
        Ok(here)
    }

    /// The content of a small member.
    fn content(&mut self, member: &Member) -> Result<Vec<u8>> {
        if member.size > KEPT_BYTES_MAX {
            return Err(nonsense("a file that is too large for what it is").into());
        }
        let mut bytes = Vec::new();
        let mut content = Content { stream: self, left: member.size, failed: None };
        let read = content.read_to_end(&mut bytes);
        if let Some(e) = content.failed {
            return Err(e.into());
        }
        read.map_err(RepoError::from)?;
        self.pad(member.size)?;
        Ok(bytes)
    }

    fn skip(&mut self, member: &Member) -> Result<()> {
        let mut content = Content { stream: self, left: member.size, failed: None };
        let read = io::copy(&mut content, &mut io::sink());
        if let Some(e) = content.failed {
            return Err(e.into());
        }
        read.map_err(RepoError::from)?;
        self.pad(member.size)
    }

    /// Past what fills up the last block of a member.
    fn pad(&mut self, size: u64) -> Result<()> {
        let mut left = (size.next_multiple_of(BLOCK_BYTES as u64) - size) as usize;
        let mut rest = [0; BLOCK_BYTES];
        while left > 0 {
            match self.read_some(&mut rest[..left])? {
                0 => return Err(nonsense("an archive that is cut off").into()),
                n => left -= n,
            }
        }
        Ok(())
    }

    /// Where the backup ended.
    fn stop(&self) -> Result<Lsn> {
        lsn(self.rows.last().and_then(|row| row.first().cloned().flatten()))
    }
}

fn row(body: &[u8]) -> std::result::Result<Row, WireError> {
    let text = |value: Option<Vec<u8>>| value.map(|value| String::from_utf8_lossy(&value).into_owned());
    Ok(Body(body).row()?.into_iter().map(text).collect())
}

fn unexpected(message: u8) -> WireError {
    nonsense(&format!("message {:?} in a backup", char::from(message)))
}

/// The content of a member.
struct Content<'s> {
    stream: &'s mut BaseStream,
    left: u64,
    /// What went wrong at the server.
    failed: Option<WireError>,
}

impl Read for Content<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = into.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let read = match self.stream.read_some(&mut into[..most]) {
            Ok(0) => Err(nonsense("an archive that is cut off")),
            read => read,
        };
        match read {
            Ok(n) => {
                self.left -= n as u64;
                Ok(n)
            }
            Err(e) => {
                let told = io::Error::other(e.to_string());
                self.failed = Some(e);
                Err(told)
            }
        }
    }
}

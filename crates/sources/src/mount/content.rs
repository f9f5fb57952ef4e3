//! The bytes of files, from anywhere in them: which chunks hold them, a cache of those that were used last, and reading ahead.
//!
//! What it is for: a file may have a million chunks. Where it was cut in pages, their places follow from the offset; where its
//! content says, lengths are asked of the index as far as somebody read, and every 64th sum is remembered.
//! What it may not know: names, the kernel.
//! Where data comes from and goes: chunks through a [`repo::SnapshotReader`]; what is read together comes with one request.

use super::view::View;
use crossbeam_channel::{Receiver, Sender, bounded};
use fuser::Errno;
use repo::{ChunkId, FileNode, Located, Node, Place, Recent, RepoError, Want};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};

/// Chunks whose places are looked up together.
const STEP: u64 = 64;
/// The most that is read ahead of somebody who reads from beginning to end.
const AHEAD_BYTES_MAX: u64 = 8 << 20;
/// Stretches that wait to be read ahead.
const AHEAD_QUEUE: usize = 16;
/// Threads that read ahead.
const AHEAD_THREADS: usize = 2;

/// A chunk of a file.
#[derive(Clone, Copy, Debug)]
struct Piece {
    id: ChunkId,
    place: Place,
    /// Where it begins in the file's data.
    start: u64,
}

impl Piece {
    fn end(&self) -> u64 {
        self.start.saturating_add(u64::from(self.place.len()))
    }
}

/// A file whose content is wanted.
pub(super) struct Content {
    view: Arc<View>,
    key: Vec<u8>,
    /// The position of its first chunk in the snapshot's list.
    first: u64,
    chunks: u64,
    size: u64,
    data: u64,
    /// Length of its chunks, where they are alike.
    page: Option<u64>,
    /// Stretches of data: offset in the file, offset in the data, length.
    stretches: Vec<(u64, u64, u64)>,
    /// Where every [`STEP`]th chunk begins, as far as is known.
    marks: Mutex<Vec<u64>>,
    window: Mutex<Option<(u64, Arc<Vec<Piece>>)>>,
    pace: Mutex<Pace>,
}

/// How somebody reads.
#[derive(Default)]
struct Pace {
    /// Where the next byte is, if it goes on.
    next: u64,
    /// How much was read in order.
    run: u64,
    /// Up to where it was asked for ahead.
    asked: u64,
}

impl Content {
    /// The content of a file; `None` when that is none.
    pub(super) fn of(view: &Arc<View>, located: &Located) -> Option<Content> {
        let Node::File(file) = &located.entry.node else { return None };
        let mut data = 0u64;
        let stretches = file.stretches().into_iter().map(|(offset, len)| {
            let start = data;
            data = data.saturating_add(len);
            (offset, start, len)
        });
        Some(Content {
            view: Arc::clone(view),
            key: located.entry.key.clone(),
            first: located.first,
            chunks: file.chunks,
            size: file.size,
            stretches: stretches.collect(),
            data: file.data_bytes(),
            page: view.reader().page_bytes(file),
            marks: Mutex::new(vec![0]),
            window: Mutex::default(),
            pace: Mutex::default(),
        })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Fills `into` with what is at `offset`, holes with zeros. All of it must be in the file.
    ///
    /// # Errors
    /// `EIO` when some of it cannot be had; that was told then.
    pub(super) fn read(self: &Arc<Self>, cache: &Cache, offset: u64, into: &mut [u8]) -> Result<(), Errno> {
        into.fill(0);
        let end = offset.saturating_add(into.len() as u64);
        let from = self.stretches.partition_point(|(at, _, len)| at.saturating_add(*len) <= offset);
        for (at, start, len) in self.stretches.get(from..).unwrap_or_default() {
            let (begin, stop) = ((*at).max(offset), at.saturating_add(*len).min(end));
            if begin >= stop {
                break;
            }
            let part = into.get_mut((begin - offset) as usize..(stop - offset) as usize).unwrap_or_default();
            self.fill(cache, start.saturating_add(begin - at), part)?;
        }
        Ok(())
    }

    fn fill(self: &Arc<Self>, cache: &Cache, from: u64, into: &mut [u8]) -> Result<(), Errno> {
        let to = from.saturating_add(into.len() as u64);
        let trouble = |error: &RepoError| self.view.teller().tell(&self.key, error);
        let (pieces, beside) = self.pieces(from, to).map_err(|e| trouble(&e))?;
        let chunks = cache.get(&self.view, &pieces, &beside).map_err(|e| trouble(&e))?;
        for (piece, chunk) in pieces.iter().zip(chunks) {
            let chunk = chunk.map_err(|e| trouble(&e))?;
            let (begin, stop) = (piece.start.max(from), piece.end().min(to));
            let source = chunk.get((begin - piece.start) as usize..(stop - piece.start) as usize);
            let target = into.get_mut((begin - from) as usize..(stop - from) as usize);
            match source.zip(target) {
                Some((source, target)) => target.copy_from_slice(source),
                None => return Err(trouble(&RepoError::damaged("a chunk", "is shorter than the index says"))),
            }
        }
        self.look_ahead(cache, from, to);
        Ok(())
    }

    /// The chunks that hold these bytes of the data, and those that come along with them for nothing.
    fn pieces(&self, from: u64, to: u64) -> Result<(Vec<Piece>, Vec<Piece>), RepoError> {
        let (mut wanted, mut beside) = (Vec::new(), Vec::new());
        let mut step = self.step_of(from)?;
        let mut at = from;
        while at < to {
            let window = self.window(step)?;
            let first = wanted.len();
            let is_wanted = |piece: &&Piece| piece.end() > at && piece.start < to;
            wanted.extend(window.iter().filter(is_wanted));
            let taken: &[Piece] = wanted.get(first..).unwrap_or_default();
            let near = |piece: &&Piece| taken.iter().any(|taken| taken.place.is_beside(&piece.place));
            beside.extend(window.iter().filter(|piece| !is_wanted(piece)).filter(near));
            at = window.last().map(Piece::end).filter(|end| *end > at).ok_or_else(shorter)?;
            step += 1;
        }
        Ok((wanted, beside))
    }

    /// Which window the byte is in.
    fn step_of(&self, at: u64) -> Result<u64, RepoError> {
        if let Some(page) = self.page {
            return Ok(at / page / STEP);
        }
        loop {
            let known = {
                let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
                let step = marks.partition_point(|mark| *mark <= at).saturating_sub(1) as u64;
                let is_last = (step + 1).saturating_mul(STEP) >= self.chunks;
                if is_last || step + 1 < marks.len() as u64 {
                    return Ok(step);
                }
                step
            };
            self.window(known)?;
        }
    }

    /// Up to [`STEP`] chunks with their places.
    fn window(&self, step: u64) -> Result<Arc<Vec<Piece>>, RepoError> {
        if let Some((known, pieces)) = &*self.window.lock().unwrap_or_else(PoisonError::into_inner)
            && *known == step
        {
            return Ok(Arc::clone(pieces));
        }
        let from = step.saturating_mul(STEP);
        let count = self.chunks.checked_sub(from).ok_or_else(shorter)?.min(STEP);
        let mut start = match self.page {
            Some(page) => from.saturating_mul(page),
            None => {
                let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
                *usize::try_from(step).ok().and_then(|step| marks.get(step)).ok_or_else(shorter)?
            }
        };
        let mut pieces = Vec::new();
        for id in self.view.reader().ids(self.first.saturating_add(from), count)? {
            let place = self.view.reader().locate(&id)?;
            let piece = Piece { id, place, start };
            let is_last = from + pieces.len() as u64 + 1 == self.chunks;
            if self.page.is_some_and(|page| u64::from(place.len()) != page && !is_last) || piece.end() > self.data {
                return Err(RepoError::damaged("a file", "has chunks of other lengths than its entry says"));
            }
            start = piece.end();
            pieces.push(piece);
        }
        if self.page.is_none() {
            let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
            if marks.len() as u64 == step + 1 {
                marks.push(start);
            }
        }
        let pieces = Arc::new(pieces);
        *self.window.lock().unwrap_or_else(PoisonError::into_inner) = Some((step, Arc::clone(&pieces)));
        Ok(pieces)
    }

    /// Has what comes next fetched, when somebody seems to want all.
    fn look_ahead(self: &Arc<Self>, cache: &Cache, from: u64, to: u64) {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        // Several threads of the kernel read one file: nearly in order is in order.
        let in_order = from <= pace.next.saturating_add(1 << 20) && to.saturating_add(1 << 20) >= pace.next;
        if !in_order {
            *pace = Pace { next: to, run: 0, asked: to };
            return;
        }
        pace.run = pace.run.saturating_add(to - from);
        pace.next = pace.next.max(to);
        pace.asked = pace.asked.max(pace.next);
        let ahead = cache.ahead_bytes.min(pace.run);
        let until = pace.next.saturating_add(ahead).min(self.data);
        // Not for every page: half of it at a time.
        if until > pace.asked && (until - pace.asked) * 2 >= ahead {
            let job = Ahead { content: Arc::downgrade(self), from: pace.asked, to: until };
            if cache.ahead.try_send(job).is_ok() {
                pace.asked = until;
            }
        }
    }
}

fn shorter() -> RepoError {
    RepoError::damaged("a file", "has less content than its entry says")
}

/// A stretch to read ahead; forgotten when nobody has the file open any more.
struct Ahead {
    content: Weak<Content>,
    from: u64,
    to: u64,
}

/// Chunks that were used last, and those that are on the way.
pub(super) struct Cache {
    state: Mutex<State>,
    arrived: Condvar,
    ahead: Sender<Ahead>,
    ahead_bytes: u64,
}

struct State {
    recent: Recent<ChunkId, Arc<Vec<u8>>>,
    coming: HashSet<ChunkId>,
}

type Fetched = Result<Arc<Vec<u8>>, RepoError>;

impl Cache {
    /// A cache of about this many bytes. Its threads end with it.
    pub(super) fn new(bytes_max: usize) -> std::io::Result<Arc<Cache>> {
        let (ahead, jobs) = bounded::<Ahead>(AHEAD_QUEUE);
        let state = State { recent: Recent::new(bytes_max), coming: HashSet::new() };
        let ahead_bytes = AHEAD_BYTES_MAX.min(bytes_max as u64 / 8);
        let cache = Arc::new(Cache { state: Mutex::new(state), arrived: Condvar::new(), ahead, ahead_bytes });
        for _ in 0..AHEAD_THREADS {
            let (jobs, cache): (Receiver<Ahead>, _) = (jobs.clone(), Arc::downgrade(&cache));
            std::thread::Builder::new().name("read-ahead".into()).spawn(move || {
                for job in jobs {
                    let (Some(content), Some(cache)) = (job.content.upgrade(), cache.upgrade()) else { continue };
                    // What cannot be had is told to whoever reads it.
                    if let Ok((pieces, beside)) = content.pieces(job.from, job.to) {
                        cache.get(&content.view, &pieces, &beside).map(drop).unwrap_or_default();
                    }
                }
            })?;
        }
        Ok(cache)
    }

    /// These chunks, in their order. Those `beside` them are kept as well when something has to be fetched.
    fn get(&self, view: &View, wanted: &[Piece], beside: &[Piece]) -> Result<Vec<Fetched>, RepoError> {
        let mut found: HashMap<ChunkId, Fetched> = HashMap::new();
        let mut fetching: Vec<Piece> = Vec::new();
        let mut waiting: Vec<ChunkId> = Vec::new();
        {
            let mut state = self.lock();
            for piece in wanted {
                match state.recent.get(&piece.id) {
                    Some(chunk) => {
                        found.insert(piece.id, Ok(chunk));
                    }
                    None if state.coming.insert(piece.id) => fetching.push(*piece),
                    None => waiting.push(piece.id),
                }
            }
            if !fetching.is_empty() {
                for piece in beside {
                    let near = fetching.iter().any(|fetched| fetched.place.is_beside(&piece.place));
                    if near && state.recent.get(&piece.id).is_none() && state.coming.insert(piece.id) {
                        fetching.push(*piece);
                    }
                }
            }
        }
        // Whatever happens: nobody must wait for what does not come.
        let arrival = Arrival { cache: self, ids: fetching.iter().map(|piece| piece.id).collect() };
        let fetched = self.fetch(view, &fetching);
        drop(arrival);
        found.extend(fetched?);
        let mut again: Vec<Piece> = Vec::new();
        {
            let mut state = self.lock();
            for id in waiting {
                while state.coming.contains(&id) {
                    state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                match state.recent.get(&id) {
                    Some(chunk) => {
                        found.insert(id, Ok(chunk));
                    }
                    // Another's failure, or forgotten already.
                    None => again.extend(wanted.iter().find(|piece| piece.id == id && !found.contains_key(&id))),
                }
            }
        }
        found.extend(self.fetch(view, &again)?);
        let missing = |id: &ChunkId| Err(RepoError::MissingChunk(*id));
        // The same chunk may be wanted twice: the last that wants it takes it, those before a copy.
        let taken = wanted.iter().map(|piece| match found.get(&piece.id) {
            Some(Ok(chunk)) => Ok(Arc::clone(chunk)),
            _ => found.remove(&piece.id).unwrap_or_else(|| missing(&piece.id)),
        });
        Ok(taken.collect())
    }

    /// Fetches and keeps chunks.
    fn fetch(&self, view: &View, pieces: &[Piece]) -> Result<Vec<(ChunkId, Fetched)>, RepoError> {
        if pieces.is_empty() {
            return Ok(Vec::new());
        }
        let wants: Vec<Want> = pieces.iter().map(|piece| Want { id: piece.id, place: piece.place, tag: 0 }).collect();
        let had: Mutex<Vec<(ChunkId, Fetched)>> = Mutex::default();
        let failed = view.reader().fetch(&wants, &|want, data| {
            let chunk = Arc::new(data.to_vec());
            self.lock().recent.put(want.id, Arc::clone(&chunk), chunk.len());
            had.lock().unwrap_or_else(PoisonError::into_inner).push((want.id, Ok(chunk)));
            Ok(())
        })?;
        let mut had = had.into_inner().unwrap_or_else(PoisonError::into_inner);
        had.extend(failed.into_iter().filter_map(|(at, error)| Some((pieces.get(at)?.id, Err(error)))));
        Ok(had)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Chunks on the way; when this is dropped they have arrived, or never will.
struct Arrival<'c> {
    cache: &'c Cache,
    ids: Vec<ChunkId>,
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        let mut state = self.cache.lock();
        for id in &self.ids {
            state.coming.remove(id);
        }
        drop(state);
        self.cache.arrived.notify_all();
    }
}

/// Where a file's next data, or its next hole, begins at or behind `offset`; `None` behind its end.
pub(super) fn next_of(file: &FileNode, offset: u64, what: Seek) -> Option<u64> {
    if offset >= file.size {
        return None;
    }
    let stretches = file.stretches();
    let inside = stretches.iter().find(|(at, len)| at.saturating_add(*len) > offset);
    match (what, inside) {
        (Seek::Data, inside) => inside.map(|(at, _)| (*at).max(offset)),
        (Seek::Hole, Some((at, _))) if *at > offset => Some(offset),
        (Seek::Hole, None) => Some(offset),
        (Seek::Hole, Some(_)) => {
            let mut end = offset;
            for (at, len) in stretches.iter().filter(|(at, len)| at.saturating_add(*len) > offset) {
                if *at > end {
                    break;
                }
                end = at.saturating_add(*len);
            }
            Some(end.min(file.size))
        }
    }
}

/// What is looked for in a sparse file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seek {
    Data,
    Hole,
}

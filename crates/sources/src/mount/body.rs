//! A file that can be written to: pages that were changed, over what was backed up.
//!
//! It may not know names, and who writes.

use super::content::{Cache, Content};
use fuser::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard};

/// What is taken over as a whole when a part of it is changed: a page of PostgreSQL.
const PAGE: u64 = 8192;

/// The content of a file.
pub(super) struct Body {
    base: Option<Arc<Content>>,
    state: RwLock<State>,
    size: AtomicU64,
}

struct State {
    size: u64,
    /// Up to where what was backed up counts: what was cut off does not come back.
    base_end: u64,
    own: Option<Own>,
}

/// Changed pages, each where it is in the file.
struct Own {
    file: File,
    pages: Vec<u64>,
}

impl Own {
    fn has(&self, page: u64) -> bool {
        self.pages.get((page / 64) as usize).is_some_and(|bits| bits & (1 << (page % 64)) != 0)
    }

    fn take(&mut self, page: u64) {
        let at = (page / 64) as usize;
        if self.pages.len() <= at {
            self.pages.resize(at + 1, 0);
        }
        self.pages[at] |= 1 << (page % 64);
    }

    /// Forgets all pages from this one on.
    fn cut(&mut self, first: u64) {
        let at = (first / 64) as usize;
        self.pages.truncate(at + 1);
        if let Some(bits) = self.pages.get_mut(at) {
            *bits &= (1 << (first % 64)) - 1;
        }
    }
}

/// A file without a name: the system gives its space back when nobody has it open any more.
pub(super) fn without_name(dir: &Path) -> io::Result<File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let path = dir.join(format!("page-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

impl Body {
    /// A file of the snapshot, or an empty one.
    pub(super) fn of(base: Option<Content>) -> Body {
        let size = base.as_ref().map_or(0, Content::size);
        let state = State { size, base_end: size, own: None };
        Body { base: base.map(Arc::new), state: RwLock::new(state), size: AtomicU64::new(size) }
    }

    /// Its size, without waiting for who reads or writes.
    pub(super) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The bytes from `offset` on, as far as there are any.
    pub(super) fn read(&self, cache: &Cache, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        let state = self.state();
        let left = state.size.saturating_sub(offset).min(u64::from(size));
        let mut bytes = vec![0; usize::try_from(left).unwrap_or(0)];
        self.fill(&state, cache, offset, &mut bytes)?;
        Ok(bytes)
    }

    fn fill(&self, state: &State, cache: &Cache, offset: u64, into: &mut [u8]) -> Result<(), Errno> {
        let end = offset + into.len() as u64;
        let mut at = offset;
        while at < end {
            // A stretch of pages that are all changed, or all not.
            let is_own = |page: u64| state.own.as_ref().is_some_and(|own| own.has(page));
            let changed = is_own(at / PAGE);
            let mut stop = ((at / PAGE + 1) * PAGE).min(end);
            while stop < end && is_own(stop / PAGE) == changed {
                stop = (stop + PAGE).min(end);
            }
            let part = into.get_mut((at - offset) as usize..(stop - offset) as usize).unwrap_or_default();
            match (&state.own, changed) {
                (Some(own), true) => read_all(&own.file, at, part).map_err(Errno::from)?,
                _ => self.fill_unchanged(state, cache, at, part)?,
            }
            at = stop;
        }
        Ok(())
    }

    fn fill_unchanged(&self, state: &State, cache: &Cache, at: u64, into: &mut [u8]) -> Result<(), Errno> {
        into.fill(0);
        let left = usize::try_from(state.base_end.saturating_sub(at)).unwrap_or(usize::MAX).min(into.len());
        match (&self.base, into.get_mut(..left)) {
            (Some(base), Some(part)) if left > 0 => base.read(cache, at, part),
            _ => Ok(()),
        }
    }

    /// Writes. `page_file` makes the file for changed pages, when there is none yet.
    pub(super) fn write(
        &self,
        cache: &Cache,
        page_file: &dyn Fn() -> io::Result<File>,
        offset: u64,
        data: &[u8],
    ) -> Result<(), Errno> {
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= i64::MAX as u64).ok_or(Errno::EFBIG)?;
        if data.is_empty() {
            return Ok(());
        }
        let mut state = self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let state = &mut *state;
        if state.own.is_none() {
            state.own = Some(Own { file: page_file().map_err(Errno::from)?, pages: Vec::new() });
        }
        // Of a page that is changed in part, the rest comes along.
        let (first, last) = (offset / PAGE, (end - 1) / PAGE);
        for (page, is_whole) in
            [(first, offset.is_multiple_of(PAGE) && end >= (first + 1) * PAGE), (last, end.is_multiple_of(PAGE))]
        {
            let is_own = state.own.as_ref().is_some_and(|own| own.has(page));
            if is_own || is_whole {
                continue;
            }
            let mut rest = [0; PAGE as usize];
            self.fill_unchanged(state, cache, page * PAGE, &mut rest)?;
            if let Some(own) = &mut state.own {
                own.file.write_all_at(&rest, page * PAGE).map_err(Errno::from)?;
                own.take(page);
            }
        }
        if let Some(own) = &mut state.own {
            own.file.write_all_at(data, offset).map_err(Errno::from)?;
            (first..=last).for_each(|page| own.take(page));
        }
        state.size = state.size.max(end);
        self.size.store(state.size, Ordering::Release);
        Ok(())
    }

    /// Cuts it off, or lengthens it with zeros.
    pub(super) fn resize(&self, size: u64) -> io::Result<()> {
        let mut state = self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.base_end = state.base_end.min(size);
        let shrinks = size < state.size;
        if let Some(own) = state.own.as_mut().filter(|_| shrinks) {
            own.cut(size.div_ceil(PAGE));
            // So that what was cut off reads as zeros when the file grows again.
            let len = own.file.metadata()?.len();
            own.file.set_len(len.min(size))?;
        }
        state.size = size;
        self.size.store(size, Ordering::Release);
        Ok(())
    }
}

/// Reads; what is behind the end of the file is zeros.
fn read_all(file: &File, mut at: u64, mut into: &mut [u8]) -> io::Result<()> {
    while !into.is_empty() {
        match file.read_at(into, at) {
            Ok(0) => {
                into.fill(0);
                return Ok(());
            }
            Ok(n) => {
                at += n as u64;
                into = into.get_mut(n..).unwrap_or_default();
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

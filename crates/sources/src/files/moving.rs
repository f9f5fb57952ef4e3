//! Trees whose owner writes to them while they are read, and makes a consistent state of what was read afterwards, as a
//! database server does with its log.
//!
//! What it is for: there, that a file changed or vanished is no problem, what is taken is for the owner to say, and pages can
//! be looked at on their way. It may not know which owner that is.

use std::fs::File;

/// What the owner of a tree knows about it.
pub trait Moving: Send + Sync {
    /// Whether what is at this path key is taken.
    fn takes(&self, key: &[u8]) -> bool;

    /// What looks at the content of the file at this path key, if anything does. Such a file is cut in pages, whatever it
    /// looks like, and read without regard to holes.
    fn inspector(&self, key: &[u8]) -> Option<Box<dyn Inspector + '_>>;
}

/// Looks at one file's content while it is stored.
pub trait Inspector {
    /// The bytes that come next, without a gap from the beginning of the file. `file` is there to look again.
    fn bytes(&mut self, data: &[u8], file: &File);

    /// What was wrong, as a sentence without its subject.
    fn verdict(self: Box<Self>) -> Option<String>;
}

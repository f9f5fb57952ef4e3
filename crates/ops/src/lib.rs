//! What a person asks for, one file per verb.
//!
//! What it is for: each verb takes a typed request and returns a report, or a [`Failure`] that says what to do.
//! What it may not know: terminals, command lines, HTML.
//! Where data comes from and goes: requests come from the binary; `sources` and `repo` do the work.
#![warn(missing_docs)]

mod ctx;
mod failure;
pub mod init;
mod open;
pub mod select;

pub use ctx::{Ctx, host_name};
pub use failure::{Exit, Failure};
pub use open::{KeyFrom, KeyText, Locator, open, remember, split_words};

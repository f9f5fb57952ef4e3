//! What programs that measure have in common: what a command takes, and where figures are written down.
//!
//! What it may not know: what is measured. Where data comes from and goes: see its modules.

pub mod document;
pub mod timed;

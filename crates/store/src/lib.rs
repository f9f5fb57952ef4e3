//! Bytes under names, in places that fail.
//!
//! What it is for: [`Store`] keeps immutable objects; when a write returns `Ok` the object survives power loss.
//! [`Reaper`] deletes them. [`World`] is everything else that is not deterministic: time, randomness, threads.
//! What it may not know: what the bytes mean.
//! Where data comes from and goes: `repo` hands over sealed objects; this crate hands them to a disk or a service.
#![warn(missing_docs)]

mod cached;
mod error;
mod finding;
mod key;
mod local;
mod lock;
mod mem;
mod reaper;
mod s3;
mod sabotage;
mod store;
mod world;

pub mod conformance;

pub use cached::CachedStore;
pub use error::{Kind, StoreError};
pub use finding::{Finding, State};
pub use key::{Key, Shelf};
pub use local::{LocalStore, NetworkPolicy};
pub use lock::{Extended, Lock, LockMode, LockPolicy};
pub use mem::MemStore;
pub use reaper::Reaper;
pub use s3::{PastStore, S3Identity, S3Place, S3Store};
pub use sabotage::sabotaged;
#[cfg(feature = "sabotage")]
pub use sabotage::{plant, planted};
pub use store::{Backend, Listed, Put, Span, Store, Warning};
pub use world::{Clock, Entropy, Lanes, Stop, Timestamp, World};

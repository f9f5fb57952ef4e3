//! Signals and the process: how it is stopped, and what it must not leave behind.
//!
//! What it is for: set up once by `main`. What it may not know: verbs.
//! Where data comes from and goes: signals set the flag that the engine looks at.

use ops::{Exit, Failure};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use store::Stop;

/// The exit code of a program whose reader went away, as shells show it for SIGPIPE.
pub const BROKEN_PIPE: u8 = 141;

/// Keeps keys out of core dumps and away from debuggers of the same user. Best effort: an old kernel or a sandbox may
/// refuse, and that must not keep a backup from running.
pub fn guard_secrets() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none).unwrap_or_default();
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).unwrap_or_default();
}

/// What signals came.
pub struct Signals {
    terminated: Arc<AtomicBool>,
}

impl Signals {
    /// From now on the first SIGINT or SIGTERM asks `stop`, and the second ends the process at once.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn watch(stop: &Stop) -> std::io::Result<Signals> {
        let terminated = Arc::new(AtomicBool::new(false));
        // In this order: the first signal must not see the flag that it sets itself.
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, stop.flag())?;
        }
        signal_hook::flag::register(SIGTERM, Arc::clone(&terminated))?;
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, stop.flag())?;
        }
        Ok(Signals { terminated })
    }

    /// The failure with the exit code of the signal that caused it.
    pub fn blame(&self, mut failure: Failure) -> Failure {
        if failure.exit == Exit::Interrupted && self.terminated.load(Ordering::SeqCst) {
            failure.exit = Exit::Terminated;
            failure.code = "terminated";
            failure.what = failure.what.replace("interrupted", "terminated");
        }
        failure
    }
}

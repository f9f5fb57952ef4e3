//! The three seams to what is not deterministic: clock, entropy, lanes. Nothing else is.
//!
//! It may not know storage. Production and simulation share every line above it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A moment of wall-clock time, in nanoseconds since 1970-01-01T00:00:00Z (negative before). Only ever compared or
/// shown: safety never rests on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i128);

impl Timestamp {
    /// A moment given in whole seconds and nanoseconds since the epoch.
    pub fn new(secs: i64, nanos: u32) -> Self {
        Timestamp(i128::from(secs) * 1_000_000_000 + i128::from(nanos))
    }

    /// Whole seconds since the epoch, rounded down.
    pub fn secs(self) -> i64 {
        i64::try_from(self.0.div_euclid(1_000_000_000)).unwrap_or(i64::MAX)
    }

    /// Nanoseconds within the second, 0 to 999,999,999.
    pub fn nanos(self) -> u32 {
        u32::try_from(self.0.rem_euclid(1_000_000_000)).unwrap_or(0)
    }

    /// The moment this much later.
    #[must_use]
    pub fn after(self, wait: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(i128::try_from(wait.as_nanos()).unwrap_or(i128::MAX)))
    }

    /// The time from `earlier` to `self`; zero when the clock went backwards.
    pub fn since(self, earlier: Timestamp) -> Duration {
        let nanos = self.0.saturating_sub(earlier.0).max(0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// What time it is.
pub trait Clock: Send + Sync {
    /// Wall-clock time: may jump, may be years off.
    fn now(&self) -> Timestamp;
    /// Time since an arbitrary fixed point; never goes backwards.
    fn monotonic(&self) -> Duration;
    /// Waits. In a simulation, virtual time passes.
    fn sleep(&self, how_long: Duration);
}

/// Randomness fit for keys.
pub trait Entropy: Send + Sync {
    /// Fills `into` with unpredictable bytes.
    fn fill(&self, into: &mut [u8]);
}

/// How many things the engine may do at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lanes {
    /// Stages run on this many threads each.
    Threads(usize),
    /// Every stage runs on the caller: for simulation, where actors interleave and stages do not.
    Inline,
}

impl Lanes {
    /// How many things go on at once.
    pub fn count(self) -> usize {
        match self {
            Lanes::Threads(n) => n.max(1),
            Lanes::Inline => 1,
        }
    }

    /// Runs `work` on every lane at the same time and returns when all are done: `work` takes from a queue that the
    /// lanes share. With [`Lanes::Inline`] it runs once, on the caller.
    pub fn each(self, work: &(dyn Fn() + Sync)) {
        match self {
            Lanes::Threads(n) if n > 1 => std::thread::scope(|scope| {
                for _ in 0..n {
                    scope.spawn(work);
                }
            }),
            _ => work(),
        }
    }

    /// Starts a stage on a thread of its own. Stages are started only where lanes are threads.
    pub fn start(self, name: &str, stage: impl FnOnce() + Send + 'static) -> std::thread::JoinHandle<()> {
        assert!(self != Lanes::Inline, "stages run on the caller where lanes are inline");
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn(stage).expect("the system can start a thread")
    }
}

/// A request to stop, looked at between chunks. Cloning shares it.
#[derive(Clone, Default, Debug)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks everybody who holds this to stop soon.
    pub fn request(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether somebody asked.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// The flag itself, for signal handlers.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

/// All that is not deterministic, in one value that is handed down.
#[derive(Clone)]
pub struct World {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Parallelism.
    pub lanes: Lanes,
    /// Cancellation.
    pub stop: Stop,
}

impl World {
    /// The real world: system clock, system randomness, one lane per processor.
    pub fn real() -> Self {
        let lanes = std::thread::available_parallelism().map_or(1, usize::from);
        World {
            clock: Arc::new(SystemClock { start: std::time::Instant::now() }),
            entropy: Arc::new(SystemEntropy),
            lanes: Lanes::Threads(lanes),
            stop: Stop::default(),
        }
    }

    /// Sixteen or thirty-two (or any number of) random bytes.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0u8; N];
        self.entropy.fill(&mut bytes);
        bytes
    }
}

struct SystemClock {
    start: std::time::Instant,
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => Timestamp(i128::try_from(after.as_nanos()).unwrap_or(i128::MAX)),
            Err(before) => Timestamp(-i128::try_from(before.duration().as_nanos()).unwrap_or(i128::MAX)),
        }
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, how_long: Duration) {
        std::thread::sleep(how_long);
    }
}

/// Randomness of the operating system.
pub(crate) struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, into: &mut [u8]) {
        // From the kernel (getrandom(2)), not from a generator of our own on top of it: a generator takes 20 ms to gather
        // its seed in every process, and the server starts a process for each segment of its log.
        let mut filled = 0;
        while filled < into.len() {
            match rustix::rand::getrandom(&mut into[filled..], rustix::rand::GetRandomFlags::empty()) {
                Ok(more) => filled += more,
                Err(rustix::io::Errno::INTR) => {}
                // A system without randomness cannot make keys: stopping is the only safe answer.
                Err(e) => panic!("the operating system provides no randomness: {e}"),
            }
        }
    }
}

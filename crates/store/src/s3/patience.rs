//! Trying again, and how many requests may be on their way at once.
//!
//! What it is for: a service that is busy, restarts or loses a connection costs time and nothing else; one that asks for
//! less gets less.
//! What it may not know: requests, objects. Where data comes from: the clock, the randomness and the stop flag of the World.

use crate::world::{Timestamp, World};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often one thing is tried. With the waits below that is about a minute for a service that refuses at once, and
/// longer for one that lets each request stand still.
const TRIES_MAX: u32 = 11;
const WAIT_FIRST: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(15);
/// The most requests at once, however well the service answers.
const AT_ONCE_MAX: u32 = 64;

/// What one try came to.
pub(super) enum Tried<T, E> {
    /// It is done, well or badly: trying again would not change it.
    Done(Result<T, E>),
    /// It failed in a way that may pass.
    Passing(E),
}

/// Tries again, and holds back.
pub(super) struct Patience {
    world: World,
    gate: Gate,
}

impl Patience {
    pub(super) fn new(world: &World) -> Self {
        Patience { world: world.clone(), gate: Gate::new() }
    }

    /// What time it is.
    pub(super) fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    /// Runs `attempt` until it is done, at most [`TRIES_MAX`] times with growing pauses between. It is told how many
    /// tries went before. A request to stop ends the waiting.
    pub(super) fn keep_trying<T, E>(&self, mut attempt: impl FnMut(u32) -> Tried<T, E>) -> Result<T, E> {
        for before in 0.. {
            self.gate.enter();
            let tried = attempt(before);
            self.gate.leave(matches!(tried, Tried::Done(_)));
            match tried {
                Tried::Done(result) => return result,
                Tried::Passing(e) if before + 1 >= TRIES_MAX || self.world.stop.requested() => return Err(e),
                Tried::Passing(_) => self.world.clock.sleep(pause(before, u32::from_le_bytes(self.world.random()))),
            }
        }
        unreachable!("the tries are counted")
    }
}

/// How long to wait after `before` + 1 tries that failed: doubling, and between half of that and all of it, so that
/// clients that were refused together do not come back together.
fn pause(before: u32, random: u32) -> Duration {
    let whole = WAIT_FIRST.saturating_mul(1 << before.min(16)).min(WAIT_MAX);
    whole.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}

/// Lets so many requests through at once as the service bears: one more for each full round that went well, half as many
/// after one that did not.
struct Gate {
    state: Mutex<State>,
    freed: Condvar,
}

struct State {
    at_once: f64,
    busy: u32,
}

impl Gate {
    fn new() -> Self {
        Gate { state: Mutex::new(State { at_once: 16.0, busy: 0 }), freed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self) {
        let mut state = self.lock();
        while f64::from(state.busy) + 1.0 > state.at_once {
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.busy += 1;
    }

    fn leave(&self, went_well: bool) {
        let mut state = self.lock();
        state.busy -= 1;
        state.at_once = match went_well {
            true => (state.at_once + 1.0 / state.at_once).min(f64::from(AT_ONCE_MAX)),
            false => (state.at_once / 2.0).max(1.0),
        };
        drop(state);
        self.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Clock;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[derive(Default)]
    struct Slept(Mutex<Vec<Duration>>);

    impl Clock for Slept {
        fn now(&self) -> Timestamp {
            Timestamp::default()
        }
        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }
        fn sleep(&self, how_long: Duration) {
            self.0.lock().unwrap().push(how_long);
        }
    }

    fn patience() -> (Patience, Arc<Slept>) {
        let clock = Arc::new(Slept::default());
        let world = World { clock: Arc::<Slept>::clone(&clock), ..World::real() };
        (Patience::new(&world), clock)
    }

    #[test]
    fn what_passes_is_tried_again_with_growing_pauses_until_it_is_done() {
        let (patience, clock) = patience();
        let done: Result<u32, ()> = patience.keep_trying(|before| match before {
            5 => Tried::Done(Ok(before)),
            _ => Tried::Passing(()),
        });
        assert_eq!(done, Ok(5));
        let slept = clock.0.lock().unwrap().clone();
        assert_eq!(slept.len(), 5);
        for (n, pause) in slept.iter().enumerate() {
            let whole = WAIT_FIRST * (1 << n);
            assert!(*pause >= whole / 2 && *pause <= whole, "{n}: {pause:?}");
        }
    }

    #[test]
    fn it_ends_with_the_last_error_after_the_last_try_and_when_somebody_asks_to_stop() {
        let (patience, clock) = patience();
        let failed: Result<(), u32> = patience.keep_trying(Tried::Passing);
        assert_eq!(failed, Err(TRIES_MAX - 1));
        assert!(clock.0.lock().unwrap().iter().all(|pause| *pause <= WAIT_MAX));
        patience.world.stop.request();
        assert_eq!(patience.keep_trying::<(), u32>(Tried::Passing), Err(0));
        assert_eq!(patience.keep_trying::<(), u32>(|_| Tried::Done(Err(7))), Err(7));
    }

    #[test]
    fn a_service_that_refuses_gets_one_request_at_a_time_and_more_again_when_it_answers() {
        let (patience, _clock) = patience();
        let failed: Result<(), ()> = patience.keep_trying(|_| Tried::Passing(()));
        assert_eq!(failed, Err(()));
        let (now, most) = (AtomicU32::new(0), AtomicU32::new(0));
        let run = |n: u32| {
            std::thread::scope(|scope| {
                for _ in 0..n {
                    scope.spawn(|| {
                        patience.keep_trying::<(), ()>(|_| {
                            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            std::thread::yield_now();
                            now.fetch_sub(1, Ordering::SeqCst);
                            Tried::Done(Ok(()))
                        })
                    });
                }
            });
        };
        assert!(patience.gate.lock().at_once < 2.0);
        run(1);
        assert_eq!(most.load(Ordering::SeqCst), 1);
        for _ in 0..2000 {
            assert_eq!(patience.keep_trying::<(), ()>(|_| Tried::Done(Ok(()))), Ok(()));
        }
        assert!(patience.gate.lock().at_once > 32.0);
        run(200);
        assert!(most.load(Ordering::SeqCst) <= AT_ONCE_MAX);
    }
}

//! One thread at a time, chosen by a seed: the world's only source of order, time and chance.
//!
//! Each host is a thread of the system that runs only while it holds the token. Every call of the engine to the outside is
//! a *turn*: it happens while the token is held, is logged, lets virtual time pass, and then the next host is drawn. A
//! crash is a call that does not return: it unwinds, and what destructors ask of the outside afterwards is refused quietly.
//! It may not know what objects are. Data comes from the engine's calls and goes to the [`Site`] and the log.

use crate::chance::Chance;
use crate::site::{Fate, Fault, Site};
use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use store::{Clock, Entropy, Lanes, Shelf, Stop, Timestamp, World};

/// More turns than any scenario needs: past that something loops.
const TURNS_MAX: u64 = 400_000;

/// What the engine can ask of the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// Create an object.
    Put,
    /// Read one.
    Get,
    /// Ask for its size.
    Size,
    /// List a shelf.
    List,
    /// Delete an object.
    Delete,
    /// Remove what dead writers left.
    Tidy,
    /// Ask what time it is.
    Now,
    /// Ask how much time has passed, or wait.
    Wait,
    /// Draw random bytes.
    Draw,
}

/// One call to the outside, as it is logged and as faults are addressed.
#[derive(Clone, Debug)]
pub struct Call {
    /// What.
    pub op: Op,
    /// In which place.
    pub place: usize,
    /// On which shelf.
    pub shelf: Option<Shelf>,
    /// What stands in the log for it: the same in every run of a seed.
    pub name: String,
}

/// How a process ended, if it did not return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The simulation killed it.
    Crashed,
    /// It panicked: a defect.
    Panicked(String),
}

/// What unwinds where a process is killed.
struct Crash;

#[derive(Clone, Debug)]
struct Host {
    name: String,
    /// Nobody is killed twice: what destructors ask for is refused.
    crashed: bool,
    /// Turns of the process that runs here now.
    turns: u64,
    over: bool,
    wake: Duration,
    /// How far its clock is off, in nanoseconds.
    skew: i128,
    frozen: Option<Timestamp>,
    pid: u32,
}

struct Hall {
    chance: Chance,
    now: Duration,
    holder: usize,
    /// Lives are being lived: before and after that the first host is alone.
    open: bool,
    hosts: Vec<Host>,
    turns: u64,
    hash: blake3::Hasher,
    trace: Option<Vec<String>>,
    site: Site,
}

/// How hosts take turns.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How often another host is drawn after a turn, in percent.
    pub switch_percent: u32,
    /// How often a process sleeps for long after a turn, per 10,000.
    pub pauses: u32,
    /// After this turn of the first host, it waits until another is over.
    pub handover: Option<u64>,
}

impl Pace {
    /// Nobody is interrupted.
    pub const CALM: Pace = Pace { switch_percent: 0, pauses: 0, handover: None };
}

const UNTIL_CALLED: Duration = Duration::MAX;

/// The turnstile and everything behind it.
pub struct Turnstile {
    hall: Mutex<Hall>,
    turned: Vec<Condvar>,
    pace: Pace,
}

/// One host's place at the turnstile.
#[derive(Clone)]
pub struct Seat {
    turnstile: Arc<Turnstile>,
    host: usize,
}

thread_local! {
    static COMPLAINT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps panics off the terminal and remembers what they said.
pub fn catch_complaints() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
        let text = info.payload_as_str().unwrap_or("something that is no text");
        COMPLAINT.with(|complaint| *complaint.borrow_mut() = Some(format!("{text}{place}")));
    }));
}

impl Turnstile {
    /// A turnstile before `site`, with one host for each name. With `traced`, the log is kept as text.
    pub fn new(seed: u64, hosts: &[&str], pace: Pace, site: Site, traced: bool) -> Arc<Turnstile> {
        let hosts: Vec<Host> = hosts
            .iter()
            .map(|name| Host {
                name: (*name).to_owned(),
                crashed: false,
                turns: 0,
                over: false,
                wake: Duration::ZERO,
                skew: 0,
                frozen: None,
                pid: 0,
            })
            .collect();
        let turned = hosts.iter().map(|_| Condvar::new()).collect();
        let hall = Hall {
            chance: Chance::new(seed),
            now: site.now,
            holder: 0,
            open: false,
            hosts,
            turns: 0,
            hash: blake3::Hasher::new(),
            trace: traced.then(Vec::new),
            site,
        };
        Arc::new(Turnstile { hall: Mutex::new(hall), turned, pace })
    }

    /// The seat of a host.
    pub fn seat(self: &Arc<Self>, host: usize) -> Seat {
        Seat { turnstile: Arc::clone(self), host }
    }

    /// The first host's seat, when all lives are over: for whoever looks what is left.
    pub fn seat_after(self: &Arc<Self>) -> Seat {
        let mut hall = self.lock();
        hall.holder = 0;
        hall.open = false;
        hall.hosts[0].over = false;
        hall.hosts[0].wake = Duration::ZERO;
        drop(hall);
        self.seat(0)
    }

    /// Runs `life` for every host, on a thread each, until all are over.
    pub fn run(self: &Arc<Self>, lives: Vec<Box<dyn FnOnce(Seat) + Send>>) {
        self.lock().open = true;
        std::thread::scope(|scope| {
            for (host, life) in lives.into_iter().enumerate() {
                let seat = self.seat(host);
                scope.spawn(move || {
                    seat.await_token();
                    life(seat.clone());
                    seat.leave();
                });
            }
        });
    }

    fn hand_over(&self, hall: &mut Hall) {
        if hall.hosts[1..].iter().any(|host| !host.over) {
            hall.hosts[0].wake = UNTIL_CALLED;
            hall.note("the first host waits for the others");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Hall> {
        self.hall.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is behind the turnstile, for whoever checks or changes it between turns.
    pub fn with<R>(&self, look: impl FnOnce(&mut Site) -> R) -> R {
        look(&mut self.lock().site)
    }

    /// Turns so far.
    pub fn turns(&self) -> u64 {
        self.lock().turns
    }

    /// One number for everything that happened: the same for the same seed.
    pub fn log_hash(&self) -> String {
        self.lock().hash.finalize().to_hex()[..16].to_owned()
    }

    /// The log as text.
    pub fn trace(&self) -> Vec<String> {
        self.lock().trace.clone().unwrap_or_default()
    }

    /// Lets time pass, and what is on its way arrive.
    pub fn pass(&self, time: Duration) {
        let mut hall = self.lock();
        hall.now += time;
        let now = hall.now;
        hall.site.arrive(now);
        hall.note("time passes");
    }

    /// What is behind the turnstile, when all is over.
    pub fn site(&self) -> Site {
        self.lock().site.clone()
    }

    /// Ends all faults: clocks are right again. What is on its way still arrives.
    pub fn heal(&self) {
        let mut hall = self.lock();
        for host in &mut hall.hosts {
            (host.skew, host.frozen) = (0, None);
        }
        hall.site.heal();
    }
}

impl Hall {
    fn note(&mut self, line: &str) {
        let line = format!("{:>6} {:>12.3} {line}", self.turns, self.now.as_secs_f64());
        self.hash.update(line.as_bytes());
        if let Some(trace) = &mut self.trace {
            trace.push(line);
        }
    }

    /// Who is next. Where nobody is awake, time passes until somebody is.
    fn next(&mut self) -> Option<usize> {
        loop {
            let awake: Vec<usize> = (0..self.hosts.len())
                .filter(|host| !self.hosts[*host].over && self.hosts[*host].wake <= self.now)
                .collect();
            if !awake.is_empty() {
                return Some(awake[self.chance.below(awake.len() as u64) as usize]);
            }
            self.now = self.hosts.iter().filter(|host| !host.over).map(|host| host.wake).min()?;
        }
    }
}

impl Seat {
    /// Runs one process on this host.
    ///
    /// # Errors
    /// How it ended, when it did not return.
    pub fn process<R>(&self, what: impl FnOnce() -> R) -> Result<R, End> {
        {
            let mut hall = self.turnstile.lock();
            let pid = hall.site.bear();
            let host = &mut hall.hosts[self.host];
            (host.crashed, host.turns, host.pid) = (false, 0, pid);
        }
        let done = catch_unwind(AssertUnwindSafe(what));
        let mut hall = self.turnstile.lock();
        let pid = hall.hosts[self.host].pid;
        hall.site.alive.remove(&pid);
        hall.hosts[self.host].crashed = false;
        done.map_err(|payload: Box<dyn Any + Send>| {
            if payload.is::<Crash>() {
                return End::Crashed;
            }
            let said = COMPLAINT.with(|complaint| complaint.borrow_mut().take());
            End::Panicked(said.unwrap_or_else(|| "without a word".to_owned()))
        })
    }

    /// One turn. `effect` does what the call is about, unless the process is killed before it; its text is the answer in the
    /// log. `refused` is the answer for a process that was killed.
    pub fn turn<R>(
        &self,
        call: Call,
        effect: impl FnOnce(&mut Site, Option<Fault>, &mut Chance, Duration) -> (R, String),
        refused: impl FnOnce() -> R,
    ) -> R {
        let turnstile = &self.turnstile;
        let mut guard = turnstile.lock();
        let hall = &mut *guard;
        if hall.hosts[self.host].crashed || std::thread::panicking() {
            return refused();
        }
        assert!(hall.holder == self.host, "only who holds the token takes a turn");
        assert!(hall.turns < TURNS_MAX, "the world goes on for ever");
        hall.turns += 1;
        hall.now += Duration::from_millis(1 + hall.chance.below(20));
        let now = hall.now;
        hall.site.arrive(now);
        hall.hosts[self.host].turns += 1;
        let turns = hall.hosts[self.host].turns;
        let fate = hall.site.fate(self.host, turns, &call, &mut hall.chance);
        let what = format!("{} {:?} {}", hall.hosts[self.host].name, call.op, call.name);
        if fate == Fate::CrashBefore {
            hall.note(&format!("{what} -> killed before it"));
            hall.hosts[self.host].crashed = true;
            hall.site.killed(&call);
            drop(guard);
            resume_unwind(Box::new(Crash));
        }
        let fault = if let Fate::Fault(fault) = fate { Some(fault) } else { None };
        match fault {
            Some(Fault::ClockStep(seconds)) => hall.hosts[self.host].skew += i128::from(seconds) * 1_000_000_000,
            Some(Fault::ClockFreeze) => hall.hosts[self.host].frozen = Some(stamp(now, hall.hosts[self.host].skew)),
            Some(Fault::Stall(seconds)) => hall.now += Duration::from_secs(seconds),
            _ => {}
        }
        let now = hall.now;
        let (result, answer) = effect(&mut hall.site, fault, &mut hall.chance, now);
        let with = fault.map(|fault| format!(" [{fault:?}]")).unwrap_or_default();
        hall.note(&format!("{what} -> {answer}{with}"));
        if fate == Fate::CrashAfter {
            hall.note(&format!("{} is killed", hall.hosts[self.host].name));
            hall.hosts[self.host].crashed = true;
            drop(guard);
            resume_unwind(Box::new(Crash));
        }
        if hall.open && hall.chance.below(10_000) < u64::from(turnstile.pace.pauses) {
            let seconds = [2, 400, 5000, 100_000][hall.chance.below(4) as usize];
            hall.hosts[self.host].wake = hall.now + Duration::from_secs(seconds);
            hall.note(&format!("{} sleeps for {seconds} s", hall.hosts[self.host].name));
        }
        if self.host == 0 && hall.open && turnstile.pace.handover == Some(turns) {
            turnstile.hand_over(hall);
        }
        let asleep = hall.hosts[self.host].wake > hall.now;
        if asleep || hall.open && hall.chance.percent(turnstile.pace.switch_percent) {
            let next = hall.next().expect("this host is not over");
            if next != self.host {
                hall.holder = next;
                turnstile.turned[next].notify_one();
                drop(guard);
                self.await_token();
            }
        }
        result
    }

    /// A line in the log that is no turn.
    pub fn note(&self, line: &str) {
        let mut hall = self.turnstile.lock();
        let line = format!("{} {line}", hall.hosts[self.host].name);
        hall.note(&line);
    }

    /// Chance for whoever decides what this host does.
    pub fn draw(&self, below: u64) -> u64 {
        self.turnstile.lock().chance.below(below)
    }

    /// What is behind the turnstile.
    pub fn with<R>(&self, look: impl FnOnce(&mut Site) -> R) -> R {
        self.turnstile.with(look)
    }

    /// The name of this host and the number of the process that runs on it now.
    pub fn process_now(&self) -> (String, u32) {
        let hall = self.turnstile.lock();
        (hall.hosts[self.host].name.clone(), hall.hosts[self.host].pid)
    }

    /// The world as this host sees it.
    pub fn world(&self) -> World {
        World {
            clock: Arc::new(self.clone()),
            entropy: Arc::new(self.clone()),
            lanes: Lanes::Inline,
            stop: Stop::default(),
        }
    }

    fn await_token(&self) {
        let mut hall = self.turnstile.lock();
        while hall.holder != self.host {
            hall = self.turnstile.turned[self.host].wait(hall).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn leave(&self) {
        let mut hall = self.turnstile.lock();
        hall.hosts[self.host].over = true;
        let now = hall.now;
        hall.hosts.iter_mut().filter(|host| host.wake == UNTIL_CALLED).for_each(|host| host.wake = now);
        if let Some(next) = hall.next() {
            hall.holder = next;
            self.turnstile.turned[next].notify_one();
        }
    }

    fn call(op: Op) -> Call {
        Call { op, place: 0, shelf: None, name: String::new() }
    }
}

fn stamp(now: Duration, skew: i128) -> Timestamp {
    Timestamp(1_700_000_000_000_000_000 + i128::try_from(now.as_nanos()).unwrap_or(i128::MAX) + skew)
}

impl Clock for Seat {
    fn now(&self) -> Timestamp {
        self.turn(Seat::call(Op::Now), |_, _, _, _| ((), String::new()), || ());
        let hall = self.turnstile.lock();
        let host = &hall.hosts[self.host];
        host.frozen.unwrap_or(stamp(hall.now, host.skew))
    }

    fn monotonic(&self) -> Duration {
        self.turn(Seat::call(Op::Wait), |_, _, _, now| (now, String::new()), || Duration::ZERO)
    }

    fn sleep(&self, how_long: Duration) {
        {
            let mut hall = self.turnstile.lock();
            hall.hosts[self.host].wake = hall.now + how_long;
        }
        self.turn(Seat::call(Op::Wait), |_, _, _, _| ((), format!("{how_long:?}")), || ());
    }
}

impl Entropy for Seat {
    fn fill(&self, into: &mut [u8]) {
        let drawn = |_: &mut Site, _: Option<Fault>, chance: &mut Chance, _: Duration| (chance.bytes(), String::new());
        let seed: [u8; 32] = self.turn(Seat::call(Op::Draw), drawn, || [0; 32]);
        blake3::Hasher::new().update(&seed).finalize_xof().fill(into);
    }
}

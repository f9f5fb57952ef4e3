//! Random worlds: a seed decides who is there, what they do, what can go wrong, and in which order it all happens.
//!
//! Each seed draws first *which* hosts, jobs and faults exist at all, so that worlds differ in kind. The plan is made before
//! the world begins, so that a failing one can be made smaller piece by piece.

use crate::chance::Chance;
use crate::hands::{CANARY, Hands, Sight, files};
use crate::model::Model;
use crate::recovery::{After, recover};
use crate::site::{Fate, Fault, SimStore, Site, When};
use crate::tally::Tally;
use crate::turnstile::{Call, Op, Pace, Seat, Turnstile};
use repo::{Bundle, Depth, MaxUnused, PackSize, Repository, Role};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use store::Shelf;

/// One thing that a host does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// Back up so many files from this one on, of which so many could not be taken.
    BackUp {
        /// First file.
        from: u64,
        /// How many.
        count: u64,
        /// What could not be taken.
        errors: u64,
    },
    /// Forget the snapshots whose labels this number chooses.
    Forget(u64),
    /// Forget all but so many of the last complete ones.
    Retain(u32),
    /// Prune, with so many dead bytes left.
    Prune(u64),
    /// Look whether all is there.
    Verify,
    /// Read everything.
    Restore(usize),
    /// Copy to a place.
    Copy(usize),
    /// Append a segment: its number, and which of two contents.
    Append(u64, u8),
    /// Note something about every snapshot.
    Annotate,
    /// Repair.
    Mend,
    /// Enrol a writer.
    Enrol,
    /// Do nothing for so many seconds.
    Sleep(u64),
}

/// Who a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Holds every key.
    Owner,
    /// Backs up, and can do nothing else.
    Writer,
}

/// One host's life.
#[derive(Clone, Debug)]
pub struct Life {
    /// Its key.
    pub who: Who,
    /// What it does.
    pub jobs: Vec<Job>,
}

/// A world.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides the rest.
    pub seed: u64,
    /// Who is there.
    pub lives: Vec<Life>,
    /// What can go wrong.
    pub chances: Vec<(Fate, u32)>,
    /// What goes wrong at a certain call.
    pub strikes: Vec<(When, Fate)>,
    /// How they take turns.
    pub pace: Pace,
    /// How long listings lag.
    pub lag: Duration,
    /// Bytes of a pack.
    pub pack_bytes: u32,
}

impl Plan {
    /// The world of a seed.
    pub fn of(seed: u64) -> Plan {
        let mut chance = Chance::new(seed.wrapping_mul(2).wrapping_add(1));
        let lagging = chance.percent(20);
        let broken = chance.percent(20);
        let with_writer = chance.percent(40);
        let hosts = 2 + chance.below(3) as usize;
        let lives = (0..hosts).map(|host| {
            let who = if with_writer && host == hosts - 1 { Who::Writer } else { Who::Owner };
            Life { who, jobs: (0..2 + chance.below(5)).map(|_| job(&mut chance, who)).collect() }
        });
        let lives = lives.collect();
        let mut chances = Vec::new();
        let rate = |chance: &mut Chance| [30, 150, 600][chance.below(3) as usize];
        for fate in [Fate::CrashBefore, Fate::CrashAfter] {
            if chance.percent(40) {
                chances.push((fate, rate(&mut chance)));
            }
        }
        for fault in Fault::HONEST {
            // A clock that jumps where listings lag shortens the grace that such places need: not protected.
            let clock = matches!(fault, Fault::ClockStep(_) | Fault::ClockFreeze);
            if chance.percent(25) && !(lagging && clock) {
                chances.push((Fate::Fault(fault), rate(&mut chance)));
            }
        }
        for fault in Fault::BROKEN {
            if broken && chance.percent(25) {
                chances.push((Fate::Fault(fault), rate(&mut chance)));
            }
        }
        if lagging {
            chances.push((Fate::Fault(Fault::Lag(30)), 20_000));
        }
        let pace = Pace {
            switch_percent: [3, 15, 60][chance.below(3) as usize],
            pauses: [0, 0, 10, 60][chance.below(4) as usize],
            handover: None,
        };
        let lag = if lagging { Duration::from_secs(30) } else { Duration::ZERO };
        let pack_bytes = [2048, 4096, 60_000][chance.below(3) as usize];
        let strikes = if chance.percent(40) { 1 + chance.below(3) } else { 0 };
        let strikes = (0..strikes).map(|_| strike(&mut chance, broken)).collect();
        Plan { seed, lives, chances, strikes, pace, lag, pack_bytes }
    }

    /// Whether a fault of such a kind can happen.
    fn has(&self, test: impl Fn(Fault) -> bool) -> bool {
        let strikes = self.strikes.iter().map(|(_, fate)| fate);
        let mut fates = self.chances.iter().map(|(fate, _)| fate).chain(strikes);
        fates.any(|fate| matches!(fate, Fate::Fault(fault) if test(*fault)))
    }

    /// How much must be as if nothing had happened.
    fn after(&self) -> After {
        match () {
            () if self.has(Fault::is_lasting) => After::Honesty,
            () if self.has(|fault| !fault.is_within_contract()) => After::Mended(None),
            // Who is killed while enrolling leaves one copy of a certificate instead of two.
            () if self.lives.iter().any(|life| life.jobs.iter().any(|job| matches!(job, Job::Enrol | Job::Mend))) => {
                After::Mended(None)
            }
            () => After::Everything,
        }
    }

    /// Its hosts and faults, for people.
    pub fn show(&self) -> String {
        let mut lines = vec![format!(
            "seed {}: packs of {} bytes, listings lag {} s, {:?}",
            self.seed,
            self.pack_bytes,
            self.lag.as_secs(),
            self.pace
        )];
        lines.extend(
            self.lives.iter().enumerate().map(|(n, life)| format!("host {n}, {:?}: {:?}", life.who, life.jobs)),
        );
        lines.extend(self.chances.iter().map(|(fate, share)| format!("{fate:?}, {share} of 100,000")));
        lines.extend(self.strikes.iter().map(spelled));
        lines.join("\n")
    }
}

fn job(chance: &mut Chance, who: Who) -> Job {
    let lots = if who == Who::Writer { 8 } else { 24 };
    match chance.below(lots) {
        0..6 => {
            let errors = u64::from(chance.percent(30));
            Job::BackUp { from: chance.below(24), count: 1 + chance.below(10), errors }
        }
        6 | 7 => Job::Sleep([60, 4000, 7300, 100_000][chance.below(4) as usize]),
        8 => Job::Forget(chance.draw()),
        9 => Job::Retain(1 + chance.below(2) as u32),
        10..15 => Job::Prune([0, 0, 3000, u64::MAX][chance.below(4) as usize]),
        15 => Job::Verify,
        16 | 17 => Job::Restore(0),
        18 | 19 => Job::Copy(1),
        20 | 21 => Job::Append(chance.below(3), chance.percent(10).into()),
        22 => Job::Annotate,
        _ => [Job::Mend, Job::Enrol][chance.below(2) as usize].clone(),
    }
}

/// Something that goes wrong at one call, which operation, shelf and number name.
fn strike(chance: &mut Chance, broken: bool) -> (When, Fate) {
    let op = [Op::Put, Op::Get, Op::Size, Op::List, Op::Delete][chance.below(5) as usize];
    let shelf = Shelf::ALL[chance.below(Shelf::ALL.len() as u64) as usize];
    let call = Call { op, place: 0, shelf: Some(shelf), name: String::new() };
    let faults = Fault::HONEST.iter().chain(Fault::BROKEN.iter().filter(|_| broken));
    let faults = faults.filter(|fault| fault.applies_to(&call)).map(|fault| Fate::Fault(*fault));
    let fates: Vec<Fate> = [Fate::CrashBefore, Fate::CrashAfter].into_iter().chain(faults).collect();
    let most = 1 << chance.below(6);
    let when = When::Nth { op, shelf, left: 1 + chance.below(most) };
    (when, fates[chance.below(fates.len() as u64) as usize])
}

/// A strike as text, without commas: lists of them are written down.
fn spelled((when, fate): &(When, Fate)) -> String {
    match when {
        When::Nth { op, shelf, left } => format!("{op:?} {shelf:?} {left}: {fate:?}"),
        When::Turn { host, turn } => format!("turn {turn} of host {host}: {fate:?}"),
        When::Ever(turn) => format!("turn {turn}: {fate:?}"),
    }
}

/// How a world went.
pub struct Ran {
    /// What does not hold.
    pub violations: Vec<String>,
    /// What happened, in one number.
    pub hash: String,
    /// What happened, as text.
    pub trace: Vec<String>,
    /// Counts.
    pub tally: Tally,
}

/// Runs a world.
pub fn run(plan: &Plan, traced: bool) -> Ran {
    let mut site = Site::new(2);
    site.canaries = vec![CANARY.to_vec(), b"canary-0".to_vec()];
    site.places[0].lag = plan.lag;
    let names = ["ada", "bea", "cyd", "dot", "eve"];
    let turnstile = Turnstile::new(plan.seed, &names[..plan.lives.len()], plan.pace, site, traced);
    let (owner, writer) = found(&turnstile, plan);
    // Until listings show it.
    turnstile.pass(plan.lag * 2);
    let after = plan.after();
    let broken = plan.has(|fault| !fault.is_within_contract());
    // What a listing does not show yet is called missing.
    let model = Arc::new(Mutex::new(Model { broken: broken || !plan.lag.is_zero(), ..Model::default() }));
    turnstile.with(|site| {
        site.doom.chances.clone_from(&plan.chances);
        site.doom.certain.clone_from(&plan.strikes);
    });
    let lives = plan.lives.iter().enumerate().map(|(host, life)| -> Box<dyn FnOnce(Seat) + Send> {
        let key = if life.who == Who::Writer { writer.clone() } else { owner.clone() };
        let (jobs, model) = (life.jobs.clone(), Arc::clone(&model));
        Box::new(move |seat| live(&mut Hands::new(&seat, &key, &model, Sight::Own), host, &jobs))
    });
    turnstile.run(lives.collect());
    turnstile.heal();
    let lock = || model.lock().unwrap_or_else(PoisonError::into_inner);
    lock().broken = false;
    let mut hands = Hands::new(&turnstile.seat_after(), &owner, &model, Sight::All);
    if lock().violations.is_empty() {
        recover(&turnstile, &mut hands, "recovery", after);
    }
    let mut violations = lock().violations.clone();
    let site = turnstile.site();
    violations.extend(site.violations.iter().cloned());
    violations.extend(crate::auditor::audit(&owner, &site.packs));
    let mut tally = Tally::default();
    tally.add_world(turnstile.turns(), &site.counts, &lock().errors);
    Ran { violations, hash: turnstile.log_hash(), trace: turnstile.trace(), tally }
}

/// A new repository, and the keys of its owner and of a writer.
fn found(turnstile: &Arc<Turnstile>, plan: &Plan) -> (Bundle, Bundle) {
    let seat = turnstile.seat(0);
    let made = seat.process(|| -> repo::Result<(Bundle, Bundle)> {
        let store = SimStore::store(&seat, 0);
        let size = PackSize::Bytes(plan.pack_bytes);
        let (mut repository, owner) = Repository::init(&store, &seat.world(), None, "owner", size)?;
        let writers = plan.lives.iter().any(|life| life.who == Who::Writer);
        let writer = if writers { repository.enrol(Role::Writer, "writer", None)? } else { owner.clone() };
        Ok((owner, writer))
    });
    made.expect("nobody is killed yet").expect("nothing fails yet")
}

fn live(hands: &mut Hands, host: usize, jobs: &[Job]) {
    for (n, job) in jobs.iter().enumerate() {
        let unused = |bytes: u64| if bytes == u64::MAX { MaxUnused::Unlimited } else { MaxUnused::Bytes(bytes) };
        let name = format!("{job:?}");
        match *job {
            Job::BackUp { from, count, errors } => {
                let label = format!("{host}.{n}");
                hands.job(&name, |hands| hands.back_up(&label, &files(from, count), errors)).ok();
            }
            Job::Forget(lot) => {
                let chosen = |label: &str| (blake3::hash(label.as_bytes()).as_bytes()[0] ^ lot as u8).is_multiple_of(2);
                hands.job(&name, |hands| hands.forget(chosen)).ok();
            }
            Job::Retain(last) => drop(hands.job(&name, |hands| hands.retain(last))),
            Job::Prune(bytes) => drop(hands.job(&name, |hands| hands.prune(unused(bytes)))),
            Job::Verify => drop(hands.job(&name, |hands| hands.verify(0, Depth::Decoded))),
            Job::Restore(place) => drop(hands.job(&name, |hands| hands.restore(place))),
            Job::Copy(to) => drop(hands.job(&name, |hands| hands.copy(to))),
            Job::Append(number, content) => {
                drop(hands.job(&name, |hands| hands.append(number, &[content; 300])));
            }
            Job::Annotate => drop(hands.job(&name, |hands| hands.annotate(Some("held")))),
            Job::Mend => drop(hands.job(&name, |hands| hands.mend(None))),
            Job::Enrol => drop(hands.job(&name, |hands| hands.enrol("another"))),
            Job::Sleep(seconds) => drop(hands.job(&name, |hands| hands.sleep(Duration::from_secs(seconds)))),
        }
    }
}

/// The smallest plan that still fails: pieces are left out while it does.
pub fn shrink(plan: &Plan) -> Plan {
    let fails = |plan: &Plan| !run(plan, false).violations.is_empty();
    let mut small = plan.clone();
    loop {
        let before = size(&small);
        for host in 0..small.lives.len() {
            for job in (0..small.lives[host].jobs.len()).rev() {
                let mut less = small.clone();
                less.lives[host].jobs.remove(job);
                if fails(&less) {
                    small = less;
                }
            }
        }
        for fault in (0..small.chances.len()).rev() {
            let mut less = small.clone();
            less.chances.remove(fault);
            if fails(&less) {
                small = less;
            }
        }
        for strike in (0..small.strikes.len()).rev() {
            let mut less = small.clone();
            less.strikes.remove(strike);
            if fails(&less) {
                small = less;
            }
        }
        if size(&small) == before {
            return small;
        }
    }
}

fn size(plan: &Plan) -> usize {
    plan.chances.len() + plan.strikes.len() + plan.lives.iter().map(|life| life.jobs.len()).sum::<usize>()
}

/// What a smaller plan leaves out of the one of its seed, as it is written down.
pub fn left_out(plan: &Plan) -> BTreeMap<&'static str, Vec<String>> {
    let whole = Plan::of(plan.seed);
    let mut jobs = Vec::new();
    for (host, (all, some)) in whole.lives.iter().zip(&plan.lives).enumerate() {
        let mut left = some.jobs.iter().peekable();
        for (n, job) in all.jobs.iter().enumerate() {
            if left.next_if(|next| *next == job).is_none() {
                jobs.push(format!("{host}.{n}"));
            }
        }
    }
    let chances = whole.chances.iter().filter(|fate| !plan.chances.contains(fate)).map(|(fate, _)| format!("{fate:?}"));
    let strikes = whole.strikes.iter().filter(|strike| !plan.strikes.contains(strike)).map(spelled);
    BTreeMap::from([("without_jobs", jobs), ("without_faults", chances.chain(strikes).collect())])
}

/// Takes faults out of a plan, as [`left_out`] names them.
pub fn leave_out(plan: &mut Plan, faults: &[String]) {
    plan.chances.retain(|(fate, _)| !faults.contains(&format!("{fate:?}")));
    plan.strikes.retain(|strike| !faults.contains(&spelled(strike)));
}

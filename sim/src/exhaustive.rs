//! Every fault at every turn: each scenario is run once to count its turns, then again for each of them.
//!
//! A case is a scenario, what strikes it when, and perhaps what strikes the recovery. All cases of a scenario begin from one
//! prepared state, which is made once.

use crate::hands::{Hands, Sight};
use crate::model::Model;
use crate::recovery::{After, recover};
use crate::scenarios::{Scenario, Second};
use crate::site::{Fate, Fault, Site, When};
use crate::tally::Tally;
use crate::turnstile::{Call, Op, Pace, Seat, Turnstile};
use repo::Bundle;
use std::sync::{Arc, Mutex, PoisonError};

/// A prepared state.
#[derive(Clone)]
pub struct Base {
    /// Places and what is in them.
    pub site: Site,
    /// What is true of it.
    pub model: Model,
    /// The owner's key.
    pub key: Bundle,
}

/// What strikes.
#[derive(Clone, Debug, Default)]
pub struct Case {
    /// What strikes the scenario.
    pub strikes: Vec<(When, Fate)>,
    /// After which turn of the first host the second takes over.
    pub handover: Option<u64>,
    /// At which turn of the recovery its process is killed.
    pub again: Option<u64>,
}

/// How a case went.
pub struct Ran {
    /// What does not hold.
    pub violations: Vec<String>,
    /// The calls of the scenario, when they were wanted.
    pub calls: Vec<Call>,
    /// Turns of the scenario, and of all.
    pub turns: (u64, u64),
    /// The log.
    pub trace: Vec<String>,
    /// What went wrong, and what it led to.
    pub tally: Tally,
}

/// How much to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Crashes and honest faults at every turn; crashes inside a few recoveries.
    Usual,
    /// Also what broken stores do, and crashes inside every tenth recovery.
    Deep,
}

/// Runs one case.
pub fn run(scenario: &Scenario, base: &Base, case: &Case, traced: bool) -> Ran {
    let mut site = base.site.clone();
    site.doom.certain.clone_from(&case.strikes);
    site.calls_seen = Some(Vec::new());
    let began = site.turns();
    let is_broken = |(_, fate): &(When, Fate)| matches!(fate, Fate::Fault(fault) if !fault.is_within_contract());
    let lasting = |(_, fate): &(When, Fate)| {
        matches!(fate, Fate::Fault(Fault::Rot | Fault::Lose | Fault::Torn | Fault::Dropped))
    };
    let mut model = base.model.clone();
    model.broken = case.strikes.iter().any(is_broken);
    let model = Arc::new(Mutex::new(model));
    let pace = Pace { handover: case.handover, ..Pace::CALM };
    let names: &[&str] = if scenario.second.is_some() { &["one", "two"] } else { &["one"] };
    let turnstile = Turnstile::new(7, names, pace, site, traced);
    let life = |act: fn(&mut Hands) -> repo::Result<()>, sight: Sight| -> Box<dyn FnOnce(Seat) + Send> {
        let (key, model, name) = (base.key.clone(), Arc::clone(&model), scenario.name);
        Box::new(move |seat: Seat| {
            let mut hands = Hands::new(&seat, &key, &model, sight);
            hands.job(name, act).ok();
        })
    };
    match &scenario.second {
        None => life(scenario.act, Sight::All)(turnstile.seat(0)),
        Some(second) => {
            let Second { act, sight } = *second;
            let key = base.key.clone();
            let other = Arc::clone(&model);
            let second: Box<dyn FnOnce(Seat) + Send> =
                Box::new(move |seat: Seat| act(&mut Hands::new(&seat, &key, &other, sight)));
            turnstile.run(vec![life(scenario.act, Sight::Own), second]);
        }
    }
    turnstile.heal();
    let lock = || model.lock().unwrap_or_else(PoisonError::into_inner);
    lock().broken = false;
    let scenario_turns = turnstile.site().turns() - began;
    let calls = turnstile.with(|site| site.calls_seen.take()).unwrap_or_default();
    let mut hands = Hands::new(&turnstile.seat_after(), &base.key, &model, Sight::All);
    if let Some(turn) = case.again {
        let at = turnstile.with(|site| site.turns()) + turn;
        turnstile.with(|site| site.doom.certain.push((When::Ever(at), Fate::CrashAfter)));
    }
    let after = match () {
        () if case.strikes.iter().any(lasting) => After::Honesty,
        () if case.strikes.iter().any(is_broken) => After::Mended,
        () => After::Everything,
    };
    let calm = case.strikes.is_empty() && case.again.is_none();
    if calm && !lock().errors.is_empty() && scenario.second.is_none() {
        let said = format!("nothing went wrong, and it failed: {:?}", lock().errors);
        lock().violation(said);
    }
    let mut label = "recovery".to_owned();
    let mut rounds = 0;
    while lock().violations.is_empty() && !recover(&turnstile, &mut hands, &label, after) && rounds < 3 {
        rounds += 1;
        label = format!("recovery {rounds}");
    }
    if lock().violations.is_empty() && after != After::Honesty {
        (scenario.then)(&mut hands);
    }
    let site = turnstile.site();
    let mut violations = lock().violations.clone();
    violations.extend(site.violations.iter().cloned());
    let mut tally = Tally::default();
    tally.add_world(turnstile.turns(), &site.counts, &lock().errors);
    Ran { violations, calls, turns: (scenario_turns, turnstile.turns()), trace: turnstile.trace(), tally }
}

/// All cases of a scenario, given how it goes when nothing strikes.
pub fn cases(scenario: &Scenario, calm: &Ran, depth: Depth) -> Vec<Case> {
    let mut cases = Vec::new();
    let own = if scenario.second.is_some() { calm.turns.0 } else { calm.calls.len() as u64 };
    if scenario.second.is_some() {
        // The first host's turns are at most all of them: a handover that comes too late changes nothing.
        cases.extend((1..=own).map(|turn| Case { handover: Some(turn), ..Case::default() }));
        return cases;
    }
    for (n, call) in calm.calls.iter().enumerate() {
        let when = When::Turn { host: 0, turn: n as u64 + 1 };
        let at = |fate| Case { strikes: vec![(when, fate)], ..Case::default() };
        let changes = matches!(call.op, Op::Put | Op::Delete | Op::Tidy);
        // A crash where nothing was changed leaves the same as a crash at the change before it: those are enough.
        let after_change = n == 0 || matches!(calm.calls[n - 1].op, Op::Put | Op::Delete | Op::Tidy);
        if changes || after_change || !scenario.dear {
            cases.push(at(Fate::CrashBefore));
        }
        if changes {
            cases.push(at(Fate::CrashAfter));
        }
        let honest = Fault::HONEST.iter().filter(|fault| fault.applies_to(call.op));
        cases.extend(honest.filter(|_| !scenario.dear || changes).map(|fault| at(Fate::Fault(*fault))));
        if depth == Depth::Deep || !scenario.dear {
            let broken = Fault::BROKEN.iter().filter(|fault| fault.applies_to(call.op));
            cases.extend(broken.map(|fault| at(Fate::Fault(*fault))));
        }
    }
    // A crash in the recovery of what a crash in the middle left behind.
    let steps = if depth == Depth::Deep { 10 } else { 2 };
    let changes: Vec<usize> = (0..calm.calls.len()).filter(|n| calm.calls[*n].op == Op::Put).collect();
    let recovery_turns = calm.turns.1 - calm.turns.0;
    for step in 0..if scenario.dear { 0 } else { steps } {
        let Some(middle) = changes.get(changes.len() * (step + 1) / (steps + 1)) else { continue };
        let strike = (When::Turn { host: 0, turn: *middle as u64 + 1 }, Fate::CrashAfter);
        cases.extend((1..recovery_turns).map(|turn| Case {
            strikes: vec![strike],
            again: Some(turn),
            ..Case::default()
        }));
    }
    cases
}

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
    /// The calls of the recovery.
    pub recovery_calls: Vec<Call>,
    /// Turns of the first host.
    pub first_turns: u64,
    /// The log.
    pub trace: Vec<String>,
    /// What went wrong, and what it led to.
    pub tally: Tally,
}

/// How much to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Crashes and faults at every turn; crashes at every change of two recoveries of each scenario.
    Usual,
    /// Also crashes at every turn of ten recoveries, and every turn of what is struck only where it changes something.
    Deep,
}

/// Runs one case.
pub fn run(scenario: &Scenario, base: &Base, case: &Case, traced: bool) -> Ran {
    let mut site = base.site.clone();
    site.doom.certain = scenario.strikes.iter().chain(&case.strikes).copied().collect();
    site.doom.chances.clone_from(&scenario.chances);
    site.calls_seen = Some(Vec::new());
    let is_broken = |(_, fate): &(When, Fate)| matches!(fate, Fate::Fault(fault) if !fault.is_within_contract());
    let lasting = |(_, fate): &(When, Fate)| matches!(fate, Fate::Fault(fault) if fault.is_lasting());
    let mut model = base.model.clone();
    model.broken |= case.strikes.iter().any(is_broken) || !scenario.chances.is_empty();
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
    let first_turns = turnstile.with(|site| site.first_turns);
    let calls = turnstile.with(|site| site.calls_seen.replace(Vec::new())).unwrap_or_default();
    let mut hands = Hands::new(&turnstile.seat_after(), &base.key, &model, Sight::All);
    if let Some(turn) = case.again {
        let at = turnstile.with(|site| site.turns()) + turn;
        turnstile.with(|site| site.doom.certain.push((When::Ever(at), Fate::CrashAfter)));
    }
    let after = match () {
        () if case.strikes.iter().any(lasting) => After::Honesty,
        () if scenario.mend.is_some() => After::Mended(scenario.mend.flatten()),
        () if case.strikes.iter().any(is_broken) => After::Mended(None),
        () => After::Everything,
    };
    let calm = case.strikes.is_empty() && case.again.is_none();
    if calm && !lock().errors.is_empty() && scenario.second.is_none() {
        let said = format!("nothing went wrong, and it failed: {:?}", lock().errors);
        lock().violation(said);
    }
    let mut label = "recovery".to_owned();
    let mut rounds = 0;
    while lock().violations.is_empty() && rounds <= 3 {
        if (scenario.first)(&mut hands) && recover(&turnstile, &mut hands, &label, after) {
            break;
        }
        rounds += 1;
        label = format!("recovery {rounds}");
    }
    if lock().violations.is_empty() && after != After::Honesty {
        (scenario.then)(&mut hands);
    }
    let site = turnstile.site();
    let recovery_calls = turnstile.with(|site| site.calls_seen.take()).unwrap_or_default();
    let mut violations = lock().violations.clone();
    violations.extend(site.violations.iter().cloned());
    violations.extend(crate::auditor::audit(&hands.key, &site.packs));
    let mut tally = Tally::default();
    tally.add_world(turnstile.turns(), &site.counts, &lock().errors);
    Ran { violations, calls, recovery_calls, first_turns, trace: turnstile.trace(), tally }
}

/// All cases of a scenario, given how it goes when nothing strikes.
pub fn cases(scenario: &Scenario, base: &Base, calm: &Ran, depth: Depth) -> Vec<Case> {
    if scenario.second.is_some() {
        // The first host's turns are at most all of them: a handover that comes too late changes nothing.
        return (1..=calm.first_turns).map(|turn| Case { handover: Some(turn), ..Case::default() }).collect();
    }
    let sparse = scenario.sparse && depth == Depth::Usual;
    let changes = |call: &Call| matches!(call.op, Op::Put | Op::Delete | Op::Tidy);
    let mut cases = Vec::new();
    for (n, call) in calm.calls.iter().enumerate() {
        let when = When::Turn { host: 0, turn: n as u64 + 1 };
        let mut strike = |fate| cases.push(Case { strikes: vec![(when, fate)], ..Case::default() });
        if sparse && !changes(call) {
            continue;
        }
        strike(Fate::CrashBefore);
        if changes(call) {
            strike(Fate::CrashAfter);
        }
        let can_be = |fault: &&Fault| fault.applies_to(call) && !(scenario.gives_up && fault.is_lasting());
        let faults = Fault::HONEST.iter().chain(&Fault::BROKEN).filter(can_be);
        faults.for_each(|fault| strike(Fate::Fault(*fault)));
    }
    if scenario.sparse {
        return cases;
    }
    // A crash in the recovery of what a crash in the middle left behind. A crash after a turn that changes nothing leaves
    // what a crash after the change before it leaves: one of them is enough.
    let middles = if depth == Depth::Deep { 10 } else { 2 };
    let writes: Vec<usize> = (0..calm.calls.len()).filter(|n| changes(&calm.calls[*n])).collect();
    for step in 1..=middles {
        let Some(middle) = writes.get(writes.len() * step / (middles + 1)) else { continue };
        let first = Case {
            strikes: vec![(When::Turn { host: 0, turn: *middle as u64 + 1 }, Fate::CrashAfter)],
            ..Case::default()
        };
        let once = run(scenario, base, &first, false);
        let turns = (1..).zip(&once.recovery_calls).filter(|(_, call)| depth == Depth::Deep || changes(call));
        cases.extend(turns.map(|(turn, _)| Case { again: Some(turn), ..first.clone() }));
    }
    cases
}

//! What must be true after anything went wrong: a fresh process opens, backs up, prunes twice and verifies.
//!
//! It may not know what went wrong. It says in the model what does not hold.

use crate::hands::{Done, Hands, files};
use crate::model::Gone;
use crate::turnstile::{End, Turnstile};
use repo::{Act, Depth, MaxUnused, RepoError};
use std::sync::Arc;
use std::time::Duration;
use store::Shelf;

/// How much has to be as if nothing had happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// All of it: nothing was lost.
    Everything,
    /// A store broke its promises for a moment: nothing was lost, and a repair, from a copy if one is named, makes it as if
    /// nothing had happened.
    Mended(Option<usize>),
    /// A store broke its promises for good: no wrong byte is given out, and what is lost is said.
    Honesty,
}

/// Runs the recovery and checks everything. Returns false when a process of it was killed.
pub fn recover(turnstile: &Arc<Turnstile>, hands: &mut Hands, label: &str, after: After) -> bool {
    let hour = Duration::from_secs(3600);
    // Less than what is still on its way takes to arrive.
    turnstile.pass(Duration::from_secs(60));
    // Whoever stood still is dead by now.
    turnstile.with(|site| site.alive.clear());
    match after {
        After::Honesty => honest(hands),
        After::Mended(_) | After::Everything => {
            if matches!(after, After::Mended(_)) {
                turnstile.pass(hour);
            }
            let mend: &dyn Fn(&mut Hands) -> Done<()> = &|hands| match after {
                After::Mended(from) => hands.job("mend", |hands| {
                    hands.mend(from)?;
                    // Heads that are none are given up.
                    hands.accept_loss()
                }),
                _ => Ok(Ok(())),
            };
            let back_up: &dyn Fn(&mut Hands) -> Done<()> =
                &|hands| hands.job("back up again", |hands| hands.back_up(label, &files(2, 5), 0));
            let prune: &dyn Fn(&mut Hands) -> Done<()> =
                &|hands| hands.job("prune", |hands| hands.prune(MaxUnused::Bytes(0)).map(drop));
            let look: &dyn Fn(&mut Hands) -> Done<()> = &|hands| hands.job("look what is left", look);
            let verify: &dyn Fn(&mut Hands) -> Done<()> =
                &|hands| hands.job("verify", |hands| hands.verify(0, Depth::Decoded).map(drop));
            let mut steps = vec![mend, back_up, prune, prune, look, verify];
            let lagging = hands.seat.with(|site| !site.places[0].lag.is_zero());
            // What is condemned stays for a day where listings lag, and who is dead is waited for.
            let more = if lagging { 6 } else { 0 };
            (0..more).for_each(|_| steps.insert(3, prune));
            for (n, step) in steps.iter().enumerate() {
                match step(hands) {
                    Ok(Ok(())) => {}
                    Ok(Err(RepoError::Busy(_))) if lagging => {}
                    Ok(Err(e)) => {
                        hands.model().violation(format!("step {n} of the recovery fails: {e}"));
                        return true;
                    }
                    Err(End::Crashed) => return false,
                    Err(End::Panicked(_)) => return true,
                }
                turnstile.pass(48 * hour);
            }
            let began = hands.seat.with(|site| site.places.get(1).is_some_and(|place| place.keys().next().is_some()));
            if matches!(after, After::Mended(None)) && began {
                // What a listing did not show is copied the next time.
                match hands.job("copy again", |hands| hands.copy(1)) {
                    Err(End::Crashed) => return false,
                    done => drop(done),
                }
            }
            matches!(check_all(hands), Ok(()) | Err(End::Panicked(_)))
        }
    }
}

/// Nothing of what is not needed is left, and nothing waits.
fn look(hands: &mut Hands) -> repo::Result<()> {
    let count = |hands: &Hands, shelf: Shelf| {
        hands.seat.with(|site| site.places[0].keys().filter(|key| key.shelf() == shelf).count())
    };
    let repository = hands.open()?;
    let report = hands.prune_at(&repository, MaxUnused::Bytes(0), Act::Preview)?;
    let left = report.packs_condemned + report.packs_swept + report.bytes_freed + report.bytes_unused;
    let mut wrong = Vec::new();
    if left != 0 || report.packs_total != report.packs_kept || !report.waiting_for.is_empty() {
        wrong.push(format!("after two prunes something is left to prune: {report:?}"));
    }
    if count(hands, Shelf::Condemned) != 0 {
        wrong.push("after two prunes a condemned list is left".to_owned());
    }
    // The last prune's own, and its end.
    let lagging = hands.seat.with(|site| !site.places[0].lag.is_zero());
    if count(hands, Shelf::Intents) > 2 && !lagging {
        wrong.push(format!("after two prunes {} announcements are left", count(hands, Shelf::Intents)));
    }
    let half = hands.seat.with(|site| site.places[0].half_written());
    if half != 0 {
        wrong.push(format!("after two prunes {half} half-written files are left"));
    }
    hands.model().violations.extend(wrong);
    Ok(())
}

/// Compares every place with the model.
///
/// # Errors
/// How a process ended that did not return.
pub fn check_all(hands: &mut Hands) -> Result<(), End> {
    let places = hands.seat.with(|site| site.places.len());
    for place in 0..places {
        let is_empty = hands.seat.with(|site| site.places[place].keys().next().is_none());
        let promised = hands.model().copied.contains_key(&place);
        if place > 0 && is_empty {
            continue;
        }
        // A copy that was not finished may be no repository yet.
        if place > 0 && !promised && hands.job("open the copy", |hands| hands.open_at(place).map(drop))?.is_err() {
            continue;
        }
        match hands.job("compare with the model", |hands| hands.check(place))? {
            Ok(()) => {}
            Err(e) => hands.model().violation(format!("place {place} cannot be read: {e}")),
        }
        if place > 0 && promised {
            hands.job("verify the copy", |hands| hands.verify(place, Depth::Decoded).map(drop))?.ok();
        }
    }
    Ok(())
}

/// Where bytes were really lost: no wrong byte comes out, and what cannot be had is named by a verification.
fn honest(hands: &mut Hands) -> bool {
    hands.model().broken = true;
    let found = hands.job("verify", |hands| hands.verify(0, Depth::Decoded));
    let silent = matches!(found, Ok(Ok(0)));
    let copied = hands.seat.with(|site| site.places.get(1).is_some_and(|place| place.keys().next().is_some()));
    if copied {
        hands.job("restore what is left of the copy", |hands| hands.restore(1)).ok();
    }
    if silent && !copied {
        // Nothing was lost that anybody needs: then everything is there. But a removal may be lost before anybody sees it.
        let labels: Vec<String> = hands.model().specs.keys().cloned().collect();
        for label in labels {
            if let Some(spec) = hands.model().specs.get_mut(&label)
                && spec.gone == Gone::Yes
            {
                spec.gone = Gone::Perhaps;
            }
        }
        hands.model().broken = false;
        return check_all(hands).is_ok();
    }
    hands.job("restore what is left", |hands| hands.restore(0)).is_ok()
}

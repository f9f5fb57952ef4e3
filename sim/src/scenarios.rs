//! The operations that are broken at every turn, and the states from which they start.
//!
//! It may not know what strikes. Each scenario prepares a repository in a calm world, and says what one host does then, or
//! two of which the second takes over in the middle of the first.

use crate::exhaustive::Base;
use crate::hands::{CANARY, Hands, Sight, files};
use crate::site::{SimStore, Site};
use crate::turnstile::{Pace, Turnstile};
use repo::{Depth, MaxUnused, PackSize, Repository, Result};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::Shelf;

/// One operation and its state.
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// Makes the state.
    pub prepare: fn() -> Base,
    /// What the first host does, as one process.
    pub act: fn(&mut Hands) -> Result<()>,
    /// What the second does in the middle of it, as processes of its own.
    pub second: Option<Second>,
    /// What must hold after the recovery, besides the model.
    pub then: fn(&mut Hands),
    /// Each run takes long: only turns that change something are struck.
    pub sparse: bool,
}

/// What a second host does.
#[derive(Clone, Copy)]
pub struct Second {
    /// All its processes.
    pub act: fn(&mut Hands),
    /// Whom it knows to be dead.
    pub sight: Sight,
}

/// A world in which a state is made.
struct Workshop {
    turnstile: Arc<Turnstile>,
    hands: Hands,
}

const HOUR: Duration = Duration::from_secs(3600);

impl Workshop {
    fn new(seed: u64, places: usize, lag: Duration) -> Workshop {
        let mut site = Site::new(places);
        site.canaries = vec![CANARY.to_vec(), b"canary-0".to_vec()];
        site.places.iter_mut().for_each(|place| place.lag = lag);
        let turnstile = Turnstile::new(seed, &["one"], Pace::CALM, site, false);
        let seat = turnstile.seat(0);
        let made = Repository::init(&SimStore::store(&seat, 0), &seat.world(), None, "o", PackSize::Bytes(4096));
        let (_, key) = made.expect("a calm world");
        let hands = Hands::new(&seat, &key, &Arc::default(), Sight::All);
        Workshop { turnstile, hands }
    }

    /// The usual repository: three snapshots that share files.
    fn usual() -> Workshop {
        let mut shop = Workshop::new(1, 2, Duration::ZERO);
        for (label, from) in [("a", 0), ("b", 3), ("c", 6)] {
            shop.job(|hands| hands.back_up(label, &files(from, 6), 0));
        }
        shop
    }

    fn job<T>(&mut self, work: impl FnOnce(&mut Hands) -> Result<T>) -> T {
        let done = self.hands.job("prepare", work);
        done.expect("nobody is killed in a calm world").expect("nothing fails in a calm world")
    }

    /// A backup that somebody began, and that stands still: it lives and does not move.
    fn stalled_backup(&mut self) {
        let turn = 40;
        let when = crate::site::When::Turn { host: 0, turn };
        self.turnstile.with(|site| site.doom.certain.push((when, crate::site::Fate::CrashAfter)));
        let done = self.hands.job("stall", |hands| hands.back_up("stalled", &files(8, 9), 0));
        assert!(done.is_err(), "it stands still");
        self.turnstile.with(|site| {
            let last = site.last_born();
            site.alive.insert(last)
        });
    }

    fn bury_all(&mut self) {
        self.turnstile.with(|site| site.alive.clear());
    }

    fn done(self) -> Base {
        let mut model = self.hands.model().clone();
        assert_eq!(model.violations, Vec::<String>::new(), "a calm world is in order");
        model.errors.clear();
        let mut site = self.turnstile.site();
        (site.first_turns, site.counts) = (0, std::collections::BTreeMap::new());
        Base { site, model, key: self.hands.key.clone() }
    }
}

fn nothing(_: &mut Hands) {}

fn prune(hands: &mut Hands) -> Result<()> {
    hands.prune(MaxUnused::Bytes(0)).map(drop)
}

fn usual() -> Base {
    Workshop::usual().done()
}

fn forgotten() -> Base {
    let mut shop = Workshop::usual();
    shop.job(|hands| hands.forget(|label| label == "a"));
    shop.done()
}

fn wasteful() -> Base {
    let mut shop = Workshop::usual();
    shop.job(|hands| hands.forget(|label| label == "b" || label == "a"));
    shop.done()
}

fn beside_a_backup() -> Base {
    let mut shop = Workshop::usual();
    shop.job(|hands| hands.forget(|label| label == "a"));
    shop.stalled_backup();
    shop.done()
}

fn condemned() -> Base {
    let mut shop = Workshop::usual();
    shop.job(|hands| hands.forget(|label| label == "a"));
    shop.stalled_backup();
    shop.job(prune);
    shop.bury_all();
    shop.turnstile.pass(2 * HOUR);
    shop.done()
}

/// A place whose listings lag: what is condemned stays for a day.
fn lagging() -> Base {
    let mut shop = Workshop::new(2, 1, Duration::from_secs(30));
    for (label, from) in [("a", 0), ("b", 3)] {
        shop.job(|hands| hands.back_up(label, &files(from, 6), 0));
    }
    shop.job(|hands| hands.forget(|label| label == "a"));
    shop.job(prune);
    shop.turnstile.pass(30 * HOUR);
    shop.done()
}

fn many_heads() -> Base {
    let mut shop = Workshop::usual();
    shop.job(|hands| hands.forget(|label| label == "a"));
    (0..64).for_each(|_| shop.job(|hands| hands.annotate(None)));
    shop.done()
}

fn many_tables() -> Base {
    let mut shop = Workshop::new(1, 1, Duration::ZERO);
    for (label, from) in [("a", 0), ("b", 3), ("c", 6), ("d", 9), ("e", 12), ("f", 15), ("g", 18), ("h", 21), ("i", 24)]
    {
        shop.job(|hands| hands.back_up(label, &files(from, 4), 0));
    }
    shop.done()
}

fn copied() -> Base {
    let mut shop = Workshop::usual();
    shop.job(|hands| hands.copy(1));
    shop.job(|hands| hands.forget(|label| label == "a"));
    shop.job(prune);
    shop.job(|hands| hands.back_up("d", &files(9, 6), 0));
    shop.done()
}

fn without_tables() -> Base {
    let shop = Workshop::usual();
    shop.turnstile.with(|site| {
        let place = &mut site.places[0];
        let tables: Vec<_> = place.keys().filter(|key| key.shelf() == Shelf::Index).cloned().collect();
        tables.iter().for_each(|key| place.meddle(key, None));
    });
    shop.done()
}

fn damaged() -> Base {
    let mut shop = Workshop::usual();
    shop.job(|hands| hands.copy(1));
    shop.turnstile.with(|site| {
        let place = &mut site.places[0];
        let of = |shelf| move |key: &&store::Key| key.shelf() == shelf;
        let packs: Vec<_> = place.keys().filter(of(Shelf::Packs)).cloned().collect();
        let table = place.keys().find(of(Shelf::Index)).cloned();
        let run = place.keys().find(of(Shelf::Runs)).cloned();
        place.meddle(&packs[0], None);
        for key in [Some(packs[1].clone()), table, run].into_iter().flatten() {
            let mut body = place.body(&key).map(|body| body.to_vec()).unwrap_or_default();
            body[70] ^= 4;
            place.meddle(&key, Some(body));
        }
    });
    shop.done()
}

/// Two backups whose hosts did not see each other: two tips.
fn two_tips() -> Base {
    let shop = Workshop::usual();
    let before = shop.turnstile.site();
    let key = shop.hands.key.clone();
    let branch = |seed: u64, label: &str| {
        let turnstile = Turnstile::new(seed, &["one"], Pace::CALM, before.clone(), false);
        let model = Arc::new(Mutex::new(shop.hands.model().clone()));
        let mut hands = Hands::new(&turnstile.seat(0), &key, &model, Sight::All);
        let done = hands.job("prepare", |hands| hands.back_up(label, &files(seed, 5), 0));
        assert!(matches!(done, Ok(Ok(()))), "a calm world");
        (turnstile.site(), hands.model().clone())
    };
    let (mut site, mut model) = branch(20, "left");
    let (other, theirs) = branch(30, "right");
    for key in other.places[0].keys() {
        let body = other.places[0].body(key).map(|body| body.to_vec());
        site.places[0].meddle(key, body);
    }
    model.specs.extend(theirs.specs);
    Base { site, model, key }
}

fn with_passphrases() -> Base {
    let mut shop = Workshop::usual();
    shop.job(|hands| hands.open()?.add_passphrase(&"old".to_owned().into(), "old").map(drop));
    shop.done()
}

/// A new passphrase, and the old one goes.
fn rotate(hands: &mut Hands) -> Result<()> {
    let mut repository = hands.open()?;
    let new = repository.add_passphrase(&"new".to_owned().into(), "new")?;
    for name in repository.passphrases()?.into_iter().filter(|name| *name != new) {
        repository.remove_passphrase(&name)?;
    }
    Ok(())
}

/// One of the two passphrases opens.
fn one_opens(hands: &mut Hands) {
    let opens = ["new", "old"].into_iter().any(|passphrase| {
        let credential = repo::Credential::Passphrase(passphrase.to_owned().into());
        Repository::open(&hands.store(0), &hands.seat.world(), &credential).is_ok()
    });
    if !opens {
        hands.model().violation("no passphrase opens the repository".into());
    }
}

/// A copy goes on where it was cut off, and is a repository.
fn copy_again(hands: &mut Hands) {
    let done = hands.job("copy again", |hands| hands.copy(1));
    if !matches!(done, Ok(Ok(()))) {
        hands.model().violation("a copy that was cut off cannot be finished".into());
    }
    crate::recovery::check_all(hands).ok();
}

/// The keys of runs that nothing needs are gone.
fn erased(hands: &mut Hands) {
    let runs = hands.seat.with(|site| site.places[0].keys().filter(|key| key.shelf() == Shelf::Runs).count());
    // b, c, and the recovery's: a's only if records of it are needed by others, which those of its own files are.
    let standing = hands.model().standing().len();
    if runs > standing + 2 {
        hands.model().violation(format!("{runs} keys of runs are left for {standing} snapshots"));
    }
}

fn second_prunes(hands: &mut Hands) {
    hands.job("prune", prune).ok();
}

/// A prune that gives up who is silent: it looks, waits, looks again, and then sweeps.
fn second_gives_up(hands: &mut Hands) {
    for _ in 0..3 {
        hands.job("prune", prune).ok();
        hands.job("wait", |hands| hands.sleep(3 * HOUR)).ok();
    }
    hands.job("prune", prune).ok();
}

fn second_forgets_and_prunes(hands: &mut Hands) {
    hands.job("forget", |hands| hands.forget(|label| label == "b")).ok();
    hands.job("prune", prune).ok();
}

fn second_backs_up(hands: &mut Hands) {
    hands.job("back up", |hands| hands.back_up("second", &files(1, 8), 0)).ok();
}

fn backup(hands: &mut Hands) -> Result<()> {
    // Some of it is in what was forgotten, some in what stays, some is new.
    hands.back_up("new", &files(1, 14), 0)
}

/// Every scenario.
pub fn all() -> Vec<Scenario> {
    let one = |name, prepare, act| Scenario { name, prepare, act, second: None, then: nothing, sparse: false };
    let two = |name, prepare, act, second: fn(&mut Hands), sight| {
        let second = Some(Second { act: second, sight });
        Scenario { name, prepare, act, second, then: nothing, sparse: false }
    };
    let restore: fn(&mut Hands) -> Result<()> = |hands| hands.restore(0);
    vec![
        one("backup", usual, backup),
        one("backup after forget", forgotten, backup),
        one("commit on two tips", two_tips, |hands| hands.back_up("new", &files(1, 1), 0)),
        one("forget", usual, |hands| hands.forget(|label| label == "b")),
        one("annotate", usual, |hands| hands.annotate(Some("because"))),
        one("prune at once", forgotten, prune),
        one("prune condemns", beside_a_backup, prune),
        one("prune gives up", condemned, prune),
        one("prune sweeps", lagging, prune),
        one("prune repacks", wasteful, prune),
        Scenario { sparse: true, ..one("prune folds heads", many_heads, prune) },
        Scenario { sparse: true, ..one("prune merges tables", many_tables, prune) },
        Scenario { then: erased, ..one("erase", forgotten, prune) },
        Scenario { then: copy_again, ..one("copy", usual, |hands| hands.copy(1)) },
        Scenario { then: copy_again, ..one("copy again", copied, |hands| hands.copy(1)) },
        one("enrol", usual, |hands| hands.enrol("w").map(drop)),
        Scenario { then: one_opens, sparse: true, ..one("rotate", with_passphrases, rotate) },
        one("rebuild the index", without_tables, |hands| hands.mend(None).map(drop)),
        one("repair from a copy", damaged, |hands| hands.mend(Some(1)).map(drop)),
        one("verify", usual, |hands| hands.verify(0, Depth::Decoded).map(drop)),
        one("restore", usual, restore),
        one("append", usual, |hands| hands.append(1, &[5; 900])),
        two("backup | prune", forgotten, backup, second_prunes, Sight::Own),
        two("backup | given up", forgotten, backup, second_gives_up, Sight::Own),
        two("backup | backup", usual, backup, second_backs_up, Sight::Own),
        two("backup | forget, prune", usual, backup, second_forgets_and_prunes, Sight::Own),
        two("prune | backup", forgotten, prune, second_backs_up, Sight::Own),
        two("prune | prune", forgotten, prune, second_prunes, Sight::Own),
        two("prune repacks | backup", wasteful, prune, second_backs_up, Sight::Own),
        two("prune sweeps | backup", lagging, prune, second_backs_up, Sight::Own),
        two("restore | forget, prune", usual, restore, second_forgets_and_prunes, Sight::Own),
        two("copy | forget, prune", usual, |hands| hands.copy(1), second_forgets_and_prunes, Sight::Own),
        two("forget | backup", usual, |hands| hands.forget(|label| label == "b"), second_backs_up, Sight::Own),
        two(
            "verify | forget, prune",
            usual,
            |hands| hands.verify(0, Depth::Decoded).map(drop),
            second_forgets_and_prunes,
            Sight::Own,
        ),
    ]
}

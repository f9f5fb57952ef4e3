//! The operations that are broken at every turn, and the states from which they start.
//!
//! It may not know what strikes. Each scenario prepares a repository in a calm world, and says what one host does then, or
//! two of which the second takes over in the middle of the first.

use crate::exhaustive::Base;
use crate::hands::{CANARY, Hands, Sight, files};
use crate::model::Model;
use crate::site::{Fate, Fault, SimStore, Site, When};
use crate::turnstile::{End, Op, Pace, Turnstile};
use repo::{Bundle, Depth, MaxUnused, PackSize, RepoError, Repository, Result, Share, VerifyPlan};
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
    /// What goes wrong while they are at work, whatever else strikes.
    pub strikes: Vec<(When, Fate)>,
    /// What happens by chance while they are at work, so often of 100,000 turns.
    pub chances: Vec<(Fate, u32)>,
    /// What somebody does before the recovery; false when its process was killed.
    pub first: fn(&mut Hands) -> bool,
    /// What must hold after the recovery, besides the model.
    pub then: fn(&mut Hands),
    /// What is begun may leave things to mend: the recovery mends first, from this place if any.
    pub mend: Option<Option<usize>>,
    /// It gives up what is lost: nothing is damaged for good while it runs, or that would be too.
    pub gives_up: bool,
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
        let when = When::Turn { host: 0, turn };
        self.turnstile.with(|site| site.doom.certain.push((when, Fate::CrashAfter)));
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

fn at_once(_: &mut Hands) -> bool {
    true
}

fn prune(hands: &mut Hands) -> Result<()> {
    hands.prune(MaxUnused::Bytes(0)).map(drop)
}

/// An empty place, and the key of who wants a repository there.
fn empty() -> Base {
    let turnstile = Turnstile::new(1, &["one"], Pace::CALM, Site::new(1), false);
    let key = Bundle::owner(&turnstile.seat(0).world(), "o");
    let mut site = turnstile.site();
    site.first_turns = 0;
    Base { site, model: Model::default(), key }
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

/// A head that says that `c` is removed, in the name of a keeper who never signed it.
fn forged() -> Base {
    let shop = Workshop::usual();
    shop.turnstile.with(|site| {
        let place = &mut site.places[0];
        let victim = shop.hands.model().specs["c"].id.expect("it was committed");
        let tips = &shop.hands.model().seen;
        let body = serde_json::json!({
            "v": 1, "features": [], "parents": tips, "time": "2024-01-01T00:00:00Z", "removes": [victim], "height": 9,
        });
        let body = body.to_string().into_bytes();
        let real = place.keys().find(|key| key.shelf() == Shelf::Heads).cloned().expect("there are heads");
        let real = place.body(&real).expect("it is there").to_vec();
        // Magic, version and signer of a real one, another body, and no signature.
        let forged = [&real[..24], &(body.len() as u32).to_le_bytes(), &body, &[0; 64]].concat();
        let name = blake3::hash(&forged).to_hex().to_string();
        place.meddle(&store::Key::new(Shelf::Heads, name).expect("hex is a good name"), Some(forged));
    });
    let mut base = shop.done();
    base.model.broken = true;
    base
}

/// A head that said only what was noted about snapshots is lost.
fn without_a_head() -> Base {
    let mut shop = Workshop::usual();
    let heads = |shop: &Workshop| -> Vec<store::Key> {
        shop.turnstile.with(|site| site.places[0].keys().filter(|key| key.shelf() == Shelf::Heads).cloned().collect())
    };
    let before = heads(&shop);
    shop.job(|hands| hands.annotate(Some("because")));
    let lost = heads(&shop).into_iter().find(|head| !before.contains(head)).expect("a note is a head");
    shop.job(|hands| hands.annotate(None));
    shop.turnstile.with(|site| site.places[0].meddle(&lost, None));
    let mut base = shop.done();
    base.model.broken = true;
    base
}

/// The newest snapshots are partial.
fn with_partial_ones() -> Base {
    let mut shop = Workshop::usual();
    for (label, from) in [("d", 2), ("e", 4)] {
        shop.job(|hands| hands.back_up(label, &files(from, 6), 1));
    }
    shop.done()
}

/// A place whose listings lag, with snapshots, and another one for a copy.
fn lagging_and_another() -> Base {
    let mut shop = Workshop::new(3, 2, Duration::from_secs(30));
    shop.turnstile.with(|site| site.places[1].lag = Duration::ZERO);
    for (label, from) in [("a", 0), ("b", 3)] {
        shop.job(|hands| hands.back_up(label, &files(from, 6), 0));
    }
    shop.turnstile.pass(HOUR);
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

/// Who wanted a repository and may not know whether there is one opens it, and makes one with a new key where there is none.
/// What arrives late of the first try belongs to no repository: it is named, and taken away by hand.
fn have_one(hands: &mut Hands) -> bool {
    let owners = hands.model().owners.clone();
    if owners.len() > 1 {
        hands.model().violation("two were told that they made the repository".into());
    }
    hands.key = owners.into_iter().next().unwrap_or_else(|| hands.key.clone());
    let promised = !hands.model().owners.is_empty();
    let opened = match hands.job("open", |hands| hands.open_at(0).map(drop)) {
        Ok(Err(RepoError::NoRepository(_))) if !promised => hands.job("init again", Hands::init_anew),
        opened => opened,
    };
    match opened {
        Ok(Ok(())) => {}
        Ok(Err(e)) => hands.model().violation(format!("neither a repository nor none: {e}")),
        Err(end) => return end != End::Crashed,
    }
    hands.job("wait", |hands| hands.sleep(HOUR)).ok();
    match hands.job("look for what belongs to nobody", strangers) {
        Ok(Ok(strangers)) => {
            hands.seat.with(|site| strangers.iter().for_each(|key| site.places[0].meddle(key, None)));
            true
        }
        Ok(Err(_)) => true,
        Err(end) => end != End::Crashed,
    }
}

/// Objects among the keys of which a verification says that they are not this repository's.
fn strangers(hands: &mut Hands) -> Result<Vec<store::Key>> {
    let plan =
        VerifyPlan { depth: Depth::Listed, share: Share::All, snapshots: None, process: repo::Process::default() };
    let report = hands.open_at(0)?.verify(&plan, &|_| {})?;
    let named = report.problems.iter().filter(|problem| problem.help.starts_with("somebody put it there"));
    let keys = named.filter_map(|problem| store::Key::new(Shelf::Keys, problem.object.strip_prefix("keys/")?));
    Ok(keys.collect())
}

/// A copy goes on where it was cut off, and is a repository.
fn copy_again(hands: &mut Hands) {
    let mut done = hands.job("copy again", |hands| hands.copy(1));
    if matches!(done, Err(End::Crashed)) {
        done = hands.job("copy once more", |hands| hands.copy(1));
    }
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

/// As that, but the prune that gives it up is killed as soon as it has deleted the announcement.
fn second_gives_up_and_is_killed(hands: &mut Hands) {
    hands.job("prune", prune).ok();
    hands.job("wait", |hands| hands.sleep(3 * HOUR)).ok();
    let when = When::Nth { op: Op::Delete, shelf: Shelf::Intents, left: 1 };
    hands.seat.with(|site| site.doom.certain.push((when, Fate::CrashAfter)));
    for _ in 0..3 {
        hands.job("prune", prune).ok();
        hands.job("wait", |hands| hands.sleep(30 * HOUR)).ok();
    }
}

fn second_makes_one(hands: &mut Hands) {
    hands.job("init", Hands::init_anew).ok();
}

fn second_copies(hands: &mut Hands) {
    hands.job("copy", |hands| hands.copy(1)).ok();
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
    let alone = |name, prepare, act, second| Scenario {
        name,
        prepare,
        act,
        second,
        strikes: Vec::new(),
        chances: Vec::new(),
        first: at_once,
        then: nothing,
        mend: None,
        gives_up: false,
        sparse: false,
    };
    let one = |name, prepare, act| alone(name, prepare, act, None);
    let two = |name, prepare, act, second: fn(&mut Hands), sight| {
        alone(name, prepare, act, Some(Second { act: second, sight }))
    };
    let restore: fn(&mut Hands) -> Result<()> = |hands| hands.restore(0);
    vec![
        Scenario { first: have_one, mend: Some(None), ..one("init", empty, Hands::init) },
        one("backup", usual, backup),
        one("backup after forget", forgotten, backup),
        one("commit on two tips", two_tips, |hands| hands.back_up("new", &files(1, 1), 0)),
        one("forget", usual, |hands| hands.forget(|label| label == "b")),
        one("forget by policy", with_partial_ones, |hands| hands.retain(1)),
        one("annotate", usual, |hands| hands.annotate(Some("because"))),
        one("prune at once", forgotten, prune),
        one("backup on what is condemned", condemned, backup),
        Scenario { mend: Some(None), sparse: true, ..one("forged head", forged, |hands| hands.check(0)) },
        Scenario { mend: Some(None), gives_up: true, ..one("give up a lost head", without_a_head, Hands::accept_loss) },
        one("prune condemns", beside_a_backup, prune),
        one("prune gives up", condemned, prune),
        one("prune sweeps", lagging, prune),
        one("prune repacks", wasteful, prune),
        Scenario { sparse: true, ..one("prune folds heads", many_heads, prune) },
        Scenario { sparse: true, ..one("prune merges tables", many_tables, prune) },
        Scenario { then: erased, ..one("erase", forgotten, prune) },
        Scenario { then: copy_again, ..one("copy", usual, |hands| hands.copy(1)) },
        Scenario { then: copy_again, ..one("copy again", copied, |hands| hands.copy(1)) },
        Scenario { mend: Some(None), ..one("enrol", usual, |hands| hands.enrol("w").map(drop)) },
        Scenario { then: one_opens, mend: Some(None), sparse: true, ..one("rotate", with_passphrases, rotate) },
        Scenario { mend: Some(None), ..one("rebuild the index", without_tables, |hands| hands.mend(None).map(drop)) },
        Scenario { mend: Some(Some(1)), ..one("repair from a copy", damaged, |hands| hands.mend(Some(1)).map(drop)) },
        one("verify", usual, |hands| hands.verify(0, Depth::Decoded).map(drop)),
        one("restore", usual, restore),
        one("append", usual, |hands| hands.append(1, &[5; 900])),
        Scenario {
            first: have_one,
            mend: Some(None),
            ..two("init | init", empty, Hands::init, second_makes_one, Sight::Own)
        },
        two("backup | prune", forgotten, backup, second_prunes, Sight::Own),
        Scenario {
            strikes: vec![(When::Nth { op: Op::Put, shelf: Shelf::Heads, left: 1 }, Fate::Fault(Fault::Late(400)))],
            ..two("backup whose head is late | prune", forgotten, backup, second_prunes, Sight::Own)
        },
        two(
            "backup on what is condemned | prune",
            condemned,
            |hands| hands.back_up("new", &files(0, 6), 0),
            second_prunes,
            Sight::All,
        ),
        two("backup | given up", forgotten, backup, second_gives_up, Sight::Own),
        two("backup | given up, keeper killed", forgotten, backup, second_gives_up_and_is_killed, Sight::Own),
        Scenario {
            chances: vec![(Fate::Fault(Fault::Lag(30)), 50_000)],
            ..two("backup | copy where listings lag", lagging_and_another, backup, second_copies, Sight::Own)
        },
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

//! What is backed up: a tree of small files, database pages, noise. The same bytes on every machine.
//!
//! What it may not know: who backs it up. Where data comes from and goes: a scale in, files on the disk out. Sizes and
//! compressibility follow real ones: a tree of documentation, system files and a Python installation (58 % of 105,366
//! files up to 4 KiB, 88 % up to 16 KiB, 1.46 GB), and 8 KiB pages of tuples, 45 % of whose bytes are random.

use std::collections::BTreeSet;
use std::fs::{File, FileTimes};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// About 105,000 small files, 1.46 GB.
    Tree,
    /// 4 GiB of database pages in one file, of which 1 % change.
    Pages,
    /// 1 GiB that does not compress, in one file.
    Noise,
}

impl Kind {
    /// All of them, in the order in which they are measured.
    pub const ALL: [Kind; 3] = [Kind::Tree, Kind::Pages, Kind::Noise];

    /// Its name on the command line and on the disk.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Tree => "tree",
            Kind::Pages => "pages",
            Kind::Noise => "noise",
        }
    }
}

const FILES: f64 = 105_366.0;
const PAGES_BYTES: f64 = 4.0 * GIB;
const NOISE_BYTES: f64 = GIB;
const GIB: f64 = (1u64 << 30) as f64;
const PAGE: usize = 8192;
/// 2025-01-01.
const EPOCH: u64 = 1_735_689_600;

/// A workload on the disk.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Which one.
    pub kind: Kind,
    /// Where.
    pub dir: PathBuf,
    /// How many files.
    pub files: u64,
    /// How many bytes are in them.
    pub bytes: u64,
}

impl Workload {
    /// Makes it in a new directory.
    ///
    /// # Errors
    /// What could not be written.
    pub fn make(kind: Kind, dir: &Path, scale: f64) -> Result<Workload, String> {
        let made = std::fs::create_dir_all(dir).and_then(|()| match kind {
            Kind::Tree => make_tree(dir, (FILES * scale) as u64),
            Kind::Pages => make_pages(&dir.join("db.dat"), pages(scale)),
            Kind::Noise => make_noise(&dir.join("noise.dat"), (NOISE_BYTES * scale) as u64),
        });
        let (files, bytes) = made.map_err(|e| format!("cannot make {}: {e}", dir.display()))?;
        Ok(Workload { kind, dir: dir.to_owned(), files, bytes })
    }

    /// Changes 1 % of the pages in place, or makes them what they were.
    ///
    /// # Errors
    /// What could not be written.
    pub fn set_pages(&self, state: Pages) -> Result<(), String> {
        let path = self.dir.join("db.dat");
        set_pages(&path, self.bytes / PAGE as u64, state).map_err(|e| format!("cannot change {}: {e}", path.display()))
    }
}

/// What state the pages are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// As they were made.
    Original,
    /// One of a hundred has another header and 256 other bytes.
    Changed,
}

/// Numbers that look random and are the same every time (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// 0 to 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&self.next().to_le_bytes()[..part.len()]);
        }
    }
}

// ---- pages ---------------------------------------------------------------------------------------------------------

fn pages(scale: f64) -> u64 {
    (PAGES_BYTES * scale) as u64 / PAGE as u64
}

fn make_pages(path: &Path, count: u64) -> std::io::Result<(u64, u64)> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    for number in 0..count {
        file.write_all(&page(number))?;
    }
    file.into_inner()?.sync_all()?;
    Ok((1, count * PAGE as u64))
}

/// A page as a database fills it: a header, pointers from the front, rows from the back.
fn page(number: u64) -> [u8; PAGE] {
    let mut dice = Dice(number ^ 0x5041_4745_5300_0000);
    let mut page = [0; PAGE];
    let (mut front, mut back) = (24, PAGE);
    for row in 0u64.. {
        let len = 280 + dice.below(121);
        if back - front < len + 4 {
            break;
        }
        back -= len;
        page[front..front + 2].copy_from_slice(&(back as u16).to_le_bytes());
        page[front + 2..front + 4].copy_from_slice(&(len as u16).to_le_bytes());
        front += 4;
        let tuple = &mut page[back..back + len];
        tuple[..4].copy_from_slice(&(number as u32 / 5).to_le_bytes());
        tuple[8..16].copy_from_slice(&(number * 32 + row).to_le_bytes());
        let random = 24 + len * 45 / 100;
        dice.fill(&mut tuple[24..random]);
        let mut at = random;
        while at < len {
            let word = COLUMNS[dice.below(COLUMNS.len())].as_bytes();
            let n = word.len().min(len - at);
            tuple[at..at + n].copy_from_slice(&word[..n]);
            at += n + 1;
        }
    }
    head(&mut page, 1, number, dice.next());
    page[12..14].copy_from_slice(&(front as u16).to_le_bytes());
    page[14..16].copy_from_slice(&(back as u16).to_le_bytes());
    page
}

/// Log position, checksum and size of page, as PostgreSQL lays them out.
fn head(page: &mut [u8; PAGE], generation: u64, number: u64, checksum: u64) {
    page[..8].copy_from_slice(&((generation << 36) + number * 1_000).to_be_bytes());
    page[8..10].copy_from_slice(&(checksum as u16).to_le_bytes());
    page[18..20].copy_from_slice(&(PAGE as u16).to_le_bytes());
}

const COLUMNS: [&str; 64] = [
    "open",
    "closed",
    "paid",
    "refunded",
    "pending",
    "Hamburg",
    "Leipzig",
    "2024-11-",
    "2025-02-",
    "invoice",
    "article",
    "red",
    "green",
    "yellow",
    "steel",
    "wood",
    "glass",
    "paper",
    "size=",
    "weight=",
    "kg",
    "EUR",
    "CHF",
    "GBP",
    "note:",
    "express",
    "parcel",
    "letter",
    "+49 40 ",
    "+41 44 ",
    "example.org",
    "example.net",
    "https://",
    "/orders/",
    "/users/",
    "GET",
    "PUT",
    "DELETE",
    "200",
    "204",
    "403",
    "500",
    "login",
    "logout",
    "session",
    "token",
    "expired",
    "renewed",
    "queue",
    "worker",
    "retry",
    "timeout",
    "started",
    "stopped",
    "failed",
    "done",
    "true",
    "false",
    "null",
    "customer",
    "supplier",
    "street",
    "avenue",
    "place",
];

fn set_pages(path: &Path, count: u64, state: Pages) -> std::io::Result<()> {
    let mut dice = Dice(0x4348_414e_4745);
    let mut chosen = BTreeSet::new();
    while (chosen.len() as u64) < count / 100 {
        chosen.insert(dice.next() % count);
    }
    let mut file = File::options().write(true).open(path)?;
    for number in chosen {
        let mut bytes = page(number);
        if state == Pages::Changed {
            let mut dice = Dice(!number);
            head(&mut bytes, 2, number, dice.next());
            let at = 4096 + dice.below(PAGE - 4096 - 256);
            dice.fill(&mut bytes[at..at + 256]);
        }
        file.seek(SeekFrom::Start(number * PAGE as u64))?;
        file.write_all(&bytes)?;
    }
    file.sync_all()
}

fn make_noise(path: &Path, bytes: u64) -> std::io::Result<(u64, u64)> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut dice = Dice(0x4e_4f49_5345);
    let mut block = vec![0; 1 << 16];
    let blocks = bytes / block.len() as u64;
    for _ in 0..blocks {
        dice.fill(&mut block);
        file.write_all(&block)?;
    }
    file.into_inner()?.sync_all()?;
    Ok((1, blocks * block.len() as u64))
}

// ---- tree ----------------------------------------------------------------------------------------------------------

/// What a directory's files have in common.
struct Style {
    top: String,
    words: Vec<String>,
    lines: Vec<String>,
}

fn make_tree(root: &Path, files: u64) -> std::io::Result<(u64, u64)> {
    let mut dice = Dice(0x5452_4545);
    let words: Vec<String> = (0..6_000).map(|_| word(&mut dice)).collect();
    let (mut made, mut bytes) = (0, 0);
    let mut dirs = BTreeSet::new();
    while made < files {
        let dir = directory(root, &mut dice, &words);
        std::fs::create_dir_all(&dir)?;
        let style = Style::new(&mut dice, &words);
        let count = (1 + dice.below(24) as u64).min(files - made);
        for _ in 0..count {
            let path = dir.join(format!("{}-{made}", words[dice.below(words.len())]));
            let content = content(&mut dice, &style);
            std::fs::write(&path, &content)?;
            let mode = [0o644, 0o644, 0o644, 0o755, 0o600][dice.below(5)];
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
            File::options().write(true).open(&path)?.set_times(times(&mut dice))?;
            if dice.below(100) == 0 {
                symlink(path.file_name().unwrap_or_default(), dir.join(format!("link-{made}")))?;
            }
            made += 1;
            bytes += content.len() as u64;
        }
        dirs.extend(dir.ancestors().take_while(|dir| *dir != root).map(Path::to_owned));
    }
    // Last, because what is made in a directory changes its time.
    for dir in dirs {
        File::open(dir)?.set_times(times(&mut dice))?;
    }
    Ok((made, bytes))
}

fn times(dice: &mut Dice) -> FileTimes {
    let time: SystemTime =
        UNIX_EPOCH + Duration::new(EPOCH + dice.next() % 20_000_000, (dice.next() % 1_000_000_000) as u32);
    FileTimes::new().set_modified(time)
}

fn word(dice: &mut Dice) -> String {
    const PARTS: [&str; 24] = [
        "an", "ber", "con", "de", "el", "fin", "ga", "her", "in", "jo", "ku", "lin", "mo", "nor", "or", "pre", "qua",
        "re", "st", "tion", "un", "ver", "wi", "zo",
    ];
    (0..1 + dice.below(4)).map(|_| PARTS[dice.below(PARTS.len())]).collect()
}

fn directory(root: &Path, dice: &mut Dice, words: &[String]) -> PathBuf {
    let mut dir = root.join(["doc", "share", "lib"][dice.below(3)]);
    for _ in 0..1 + dice.below(4) {
        // Few names near the top, many below.
        dir.push(&words[dice.below(400)]);
    }
    dir.push(&words[dice.below(words.len())]);
    dir
}

impl Style {
    /// What all files of a directory begin with, and the words that they speak of.
    fn new(dice: &mut Dice, words: &[String]) -> Style {
        let mut own: Vec<String> = (0..220).map(|_| words[dice.below(words.len())].clone()).collect();
        own.extend(words.iter().take(180).cloned());
        let (a, b, c) = (&own[0], &own[1], &own[2]);
        let many: String = own.iter().take(60).map(|word| format!("\"../static/{word}\"\n")).collect();
        let top = match dice.below(3) {
            0 => format!("<!DOCTYPE html><head><title>{a}</title><script src={many}></head><body class=\"{a} {b}\">\n"),
            1 => format!("# Copyright the {a} authors. See the file LICENSE.\nimport {b}\nfrom {c} import {many}\n\n"),
            _ => format!("{{\"version\": 2, \"package\": \"{a}\", \"needs\": {many}, \"entries\": [\n"),
        };
        let mut style = Style { top, words: own, lines: Vec::new() };
        style.lines = (0..300).map(|_| line(dice, &style)).collect();
        style
    }
}

/// A file's bytes: mostly text of a few kinds, some of it noise.
fn content(dice: &mut Dice, style: &Style) -> Vec<u8> {
    // Twelve dice make a bell; its exponential is the distribution of real file sizes.
    let bell: f64 = (0..12).map(|_| dice.share()).sum::<f64>() - 6.0;
    let len = (3_300.0 * (1.75 * bell).exp()).min((4u64 << 20) as f64) as usize;
    if dice.below(100) < 5 {
        let mut noise = vec![0; len];
        dice.fill(&mut noise);
        return noise;
    }
    let mut text = String::with_capacity(len + 256);
    text.push_str(&style.top);
    while text.len() < len {
        match dice.below(100) {
            0..45 => text.push_str(&style.lines[dice.below(style.lines.len())]),
            _ => text.push_str(&line(dice, style)),
        }
    }
    text.truncate(len);
    text.into_bytes()
}

fn line(dice: &mut Dice, style: &Style) -> String {
    // The cube makes some words frequent and most rare.
    let pick = |dice: &mut Dice| {
        let share = dice.share();
        &style.words[(share * share * share * style.words.len() as f64) as usize]
    };
    let number = dice.below(100_000);
    let phrase = |dice: &mut Dice, n: usize| (0..n).map(|_| pick(dice).as_str()).collect::<Vec<_>>().join(" ");
    match style.top.as_bytes()[0] {
        b'<' => {
            let (class, target, n) = (phrase(dice, 1), phrase(dice, 1), 3 + dice.below(12));
            let words = phrase(dice, n);
            format!(
                "<div class=\"item {class}\"><a href=\"../{target}/struct.{class}.html#{number}\">{words}</a></div>\n"
            )
        }
        b'#' => {
            let (name, target, n) = (phrase(dice, 1), phrase(dice, 1), 2 + dice.below(8));
            let words = phrase(dice, n);
            format!("    self.{name} = {target}({number}, None)  # {words}\n")
        }
        _ => {
            let (name, value) = (phrase(dice, 1), phrase(dice, 2));
            format!("  {{\"name\": \"{name}\", \"value\": \"{value}\", \"count\": {number}}},\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("peers-workload-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_tree_is_the_same_every_time_and_its_files_are_small() {
        let dirs = [scratch("a"), scratch("b")];
        let made = dirs.clone().map(|dir| Workload::make(Kind::Tree, &dir, 0.01).unwrap());
        assert_eq!((made[0].files, made[0].bytes), (1_053, made[1].bytes));
        crate::same::same_trees(&dirs[0], &dirs[1]).unwrap();
        let mean = made[0].bytes / made[0].files;
        assert!((7_000..28_000).contains(&mean), "{mean} bytes a file");
        dirs.iter().for_each(|dir| std::fs::remove_dir_all(dir).unwrap());
    }

    #[test]
    fn one_page_of_a_hundred_changes_and_changes_back() {
        let dir = scratch("pages");
        let made = Workload::make(Kind::Pages, &dir, 0.002).unwrap();
        let read = || std::fs::read(dir.join("db.dat")).unwrap();
        let original = read();
        made.set_pages(Pages::Changed).unwrap();
        let changed = read();
        let differ = original.chunks(PAGE).zip(changed.chunks(PAGE)).filter(|(a, b)| a != b).count();
        assert_eq!((original.len(), differ), (changed.len(), original.len() / PAGE / 100));
        made.set_pages(Pages::Original).unwrap();
        assert!(read() == original);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

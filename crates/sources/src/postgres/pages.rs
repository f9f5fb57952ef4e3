//! Pages of relation files: their checksums (PostgreSQL source, `storage/checksum_impl.h` and `bufpage.h`).
//!
//! It reads nothing: bytes in, verdict out.

/// The size of a page, as every packaged PostgreSQL has it.
pub const PAGE_BYTES: usize = 8192;
const SUMS: usize = 32;
const PRIME: u32 = 16_777_619;
const OFFSETS: [u32; SUMS] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];

/// What a page says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// Its checksum is right.
    Good,
    /// It was never written: `pd_upper` is zero, as in every page that was only allocated.
    New,
    /// Its checksum is wrong.
    Bad {
        /// Where the WAL stood when it was last changed, as far as that can be believed.
        lsn: u64,
    },
}

/// What the page of this number in its relation is.
pub fn check(page: &[u8; PAGE_BYTES], block: u32) -> Page {
    let short = |at: usize| u16::from_le_bytes([page[at], page[at + 1]]);
    if short(14) == 0 {
        // A page whose header is zero and whose rest is not was torn.
        return if page.iter().all(|byte| *byte == 0) { Page::New } else { Page::Bad { lsn: lsn(page) } };
    }
    if short(8) == checksum(page, block) { Page::Good } else { Page::Bad { lsn: lsn(page) } }
}

fn lsn(page: &[u8; PAGE_BYTES]) -> u64 {
    let word = |at: usize| u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]);
    u64::from(word(0)) << 32 | u64::from(word(4))
}

fn checksum(page: &[u8; PAGE_BYTES], block: u32) -> u16 {
    let mut sums = OFFSETS;
    let mix = |sum: u32, value: u32| {
        let mixed = sum ^ value;
        mixed.wrapping_mul(PRIME) ^ (mixed >> 17)
    };
    for (n, row) in page.chunks_exact(SUMS * 4).enumerate() {
        for (lane, word) in row.chunks_exact(4).enumerate() {
            // The checksum itself counts as zero.
            let keep = if n == 0 && lane == 2 { 0xffff_0000 } else { u32::MAX };
            let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]) & keep;
            sums[lane] = mix(sums[lane], word);
        }
    }
    for _ in 0..2 {
        sums = sums.map(|sum| mix(sum, 0));
    }
    let folded = sums.iter().fold(0, |all, sum| all ^ sum) ^ block;
    (folded % 65535) as u16 + 1
}

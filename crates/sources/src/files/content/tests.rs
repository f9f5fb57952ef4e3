use super::*;

fn noise(len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut out);
    out
}

#[test]
fn what_is_changed_in_place_is_cut_in_pages() {
    const MIB: u64 = 1 << 20;
    let tar = {
        let mut head = vec![0; 512];
        head[257..262].copy_from_slice(b"ustar");
        head
    };
    for (size, head, expect) in [
        (64 * MIB, &noise(512)[..], Shape::Pages),
        (MIB, &[0; 512], Shape::Pages),
        (MIB - 4096, &[0; 512], Shape::Stream),
        (64 * MIB + 1, &[0; 512], Shape::Stream),
        (64 * MIB, b"\x1f\x8b\x08\0\0", Shape::Stream),
        (64 * MIB, b"PK\x03\x04\0", Shape::Stream),
        (64 * MIB, b"\0\0\0\x20ftypisom", Shape::Stream),
        (64 * MIB, b"%PDF-1.7\n\0", Shape::Stream),
        (64 * MIB, &tar, Shape::Stream),
        (64 * MIB, "2026-11-20 a log, é".as_bytes(), Shape::Stream),
        (64 * MIB, &"é".as_bytes().repeat(256)[..511], Shape::Stream),
        (64 * MIB, b"KDMV\x01\0\0\0", Shape::Pages),
    ] {
        assert_eq!(shape(size, head), expect, "{size} {head:?}");
    }
}

#[test]
fn holes_are_found_and_content_between_them() {
    let file = tempfile::tempfile().expect("temp file");
    let size = 3 << 30;
    file.set_len(size).expect("sets");
    file.write_all_at(b"middle", 1 << 30).expect("writes");
    file.write_all_at(b"end", size - 3).expect("writes");
    let stat = fstat(&file).expect("stats");
    let extents = data_extents(&file, &stat).expect("has holes");
    let data: u64 = extents.iter().map(|extent| extent.data).sum();
    let node = FileNode { size, extents: Some(extents), ..FileNode::default() };
    assert!(data < 1 << 20 && node.stretches().len() == 2, "{node:?}");
    for at in [1 << 30, size - 3] {
        assert!(node.stretches().iter().any(|(start, len)| (*start..start + len).contains(&at)));
    }
    // All hole, no hole, too small to matter.
    file.set_len(0).expect("sets");
    file.set_len(1 << 20).expect("sets");
    assert_eq!(data_extents(&file, &fstat(&file).expect("stats")), Some(Vec::new()));
    file.write_all_at(&noise(1 << 20), 0).expect("writes");
    assert_eq!(data_extents(&file, &fstat(&file).expect("stats")), None);
    file.set_len(4096).expect("sets");
    assert_eq!(data_extents(&file, &fstat(&file).expect("stats")), None);
}

#[test]
fn stretches_of_pages_begin_and_end_with_blocks() {
    const KIB: u64 = 1 << 10;
    for (given, size, expect) in [
        (&[(0, 4), (96, 4)][..], 1000, &[(0, 32), (64, 32)][..]),
        (&[(4, 4), (20, 8), (4, 4)], 1000, &[(0, 64)]),
        (&[(32, 32), (32, 32)], 128, &[(32, 32), (32, 32)]),
        (&[(40, 30), (60, 4)], 134, &[(32, 64), (32, 6)]),
        (&[(100, 4)], 104, &[(96, 8)]),
        (&[], 104, &[]),
    ] {
        let extents = |pairs: &[(u64, u64)]| -> Vec<Extent> {
            pairs.iter().map(|(hole, data)| Extent { hole: hole * KIB, data: data * KIB }).collect()
        };
        assert_eq!(widen(&extents(given), size * KIB), extents(expect), "{given:?}");
    }
}

#[test]
fn a_file_that_was_cut_off_ends_with_its_last_byte() {
    let extents = vec![Extent { hole: 10, data: 5 }, Extent { hole: 3, data: 7 }, Extent { hole: 1, data: 1 }];
    let node = |extents| FileNode { size: 100, extents, ..FileNode::default() };
    let cut = |bytes| {
        let cut = cut_off(node(Some(extents.clone())), bytes);
        (cut.size, cut.data_bytes(), cut.stretches().len())
    };
    assert_eq!(cut(0), (0, 0, 0));
    assert_eq!(cut(5), (15, 5, 1));
    assert_eq!(cut(6), (19, 6, 2));
    assert_eq!(cut(12), (25, 12, 2));
    assert_eq!(cut_off(node(None), 42).size, 42);
}

#[test]
fn a_small_file_is_read_again_until_it_settles() {
    let file = tempfile::NamedTempFile::new().expect("temp file");
    std::fs::write(file.path(), "before").expect("writes");
    let open = || {
        let file = File::open(file.path()).expect("opens");
        let stat = fstat(&file).expect("stats");
        Opened { file, stat, at: Timestamp::default() }
    };
    let mut opened = open();
    std::fs::write(file.path(), "afterwards").expect("writes");
    let (data, after) = read_settled(&mut opened).expect("reads");
    assert_eq!((data.as_slice(), after), (&b"afterwards"[..], Stamp::of(&opened.stat)));
    // One that became large is what it was, up to where it ended.
    let mut opened = open();
    std::fs::write(file.path(), noise(WHOLE_BYTES_MAX + 1)).expect("writes");
    let (data, after) = read_settled(&mut opened).expect("reads");
    assert!(data.len() == 10 && after != Stamp::of(&opened.stat));
}

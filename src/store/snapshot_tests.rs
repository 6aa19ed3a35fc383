//! Snapshots against real files, damaged ones too.

use super::*;
use std::collections::BTreeSet;

fn rows(tag: &str) -> Vec<Row> {
    (0..50)
        .map(|number: u32| Row {
            key: format!("key {number}").into_bytes(),
            value: format!("{tag} {number}").repeat(1_000).into_bytes(),
        })
        .collect()
}

fn seal(snapshots: &Snapshots, next: u64) -> Sealed {
    let position = format!("position {next}").into_bytes();
    snapshots
        .seal(0, next, position, &rows(&next.to_string()))
        .unwrap()
}

/// Two snapshots of shard 0 in `dir`, at 10 and at 20.
fn two(dir: &Path) -> Snapshots {
    let snapshots = Snapshots::open(dir).unwrap();
    seal(&snapshots, 10);
    seal(&snapshots, 20);
    snapshots
}

fn nexts(recovered: &Recovered) -> Vec<u64> {
    recovered.good.iter().map(Sealed::next).collect()
}

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn newest(dir: &Path) -> PathBuf {
    dir.join("00/00000000000000000020")
}

#[test]
fn the_newest_snapshot_is_read_with_its_position() {
    let dir = tempfile::tempdir().unwrap();
    two(dir.path());
    let snapshots = Snapshots::open(dir.path()).unwrap();
    let recovered = snapshots.recover(0).unwrap();
    assert_eq!(nexts(&recovered), [10, 20]);
    assert_eq!(recovered.rows, rows("20"));
    assert_eq!(recovered.good[1].position(), b"position 20");
    assert_eq!(snapshots.load(&recovered.good[0]).unwrap(), rows("10"));
    assert!(snapshots.recover(1).unwrap().good.is_empty());
    assert!(!dir.path().join("scratch/0").exists());
}

#[test]
fn exactly_the_newest_two_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(dir.path()).unwrap();
    let mut good: Vec<Sealed> = [10, 20, 30, 40].map(|next| seal(&snapshots, next)).into();
    snapshots.retire(&mut good).unwrap();
    let kept = ["00000000000000000030", "00000000000000000040"];
    assert_eq!(
        names(&dir.path().join("00")),
        kept.map(str::to_owned).into()
    );
    seal(&snapshots, 50);
    assert_eq!(nexts(&snapshots.recover(0).unwrap()), [40, 50]);
    assert_eq!(names(&dir.path().join("00")).len(), 2);
}

#[test]
fn one_flipped_byte_in_any_file_sets_the_snapshot_aside_and_the_one_before_is_used() {
    let source = tempfile::tempdir().unwrap();
    two(source.path());
    let tree = files::walk(&newest(source.path())).unwrap();
    let names: BTreeSet<_> = tree
        .files
        .iter()
        .filter_map(|path| path.file_name())
        .collect();
    assert!(names.len() >= 3, "{names:?}");
    for file in &tree.files {
        let bytes = fs::read(file).unwrap();
        for at in [0, bytes.len() / 2, bytes.len().saturating_sub(1)] {
            let mut damaged = bytes.clone();
            let Some(byte) = damaged.get_mut(at) else {
                continue;
            };
            *byte ^= 0x10;
            fs::write(file, damaged).unwrap();
            let snapshots = Snapshots::open(source.path()).unwrap();
            let recovered = snapshots.recover(0).unwrap();
            let case = format!("byte {at} of {}", file.display());
            assert_eq!(nexts(&recovered), [10], "{case}");
            assert_eq!(recovered.rows, rows("10"), "{case}");
            let aside = newest(source.path()).with_extension("damaged");
            assert!(aside.exists(), "{case}");
            // Repaired, for the next case.
            fs::rename(aside, newest(source.path())).unwrap();
            fs::write(file, &bytes).unwrap();
        }
    }
    let snapshots = Snapshots::open(source.path()).unwrap();
    assert_eq!(nexts(&snapshots.recover(0).unwrap()), [10, 20]);
}

#[test]
fn a_missing_file_and_one_too_many_set_the_snapshot_aside() {
    for delete in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = two(dir.path());
        let db = newest(dir.path()).join("db");
        if delete {
            fs::remove_file(db.join("db")).unwrap();
        } else {
            fs::write(db.join("more"), b"more").unwrap();
        }
        assert_eq!(nexts(&snapshots.recover(0).unwrap()), [10]);
    }
}

#[test]
fn what_was_never_finished_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = two(dir.path());
    fs::remove_file(newest(dir.path()).join("manifest")).unwrap();
    fs::create_dir_all(dir.path().join("00/00000000000000000030/db")).unwrap();
    fs::create_dir_all(dir.path().join("scratch/7")).unwrap();
    assert_eq!(nexts(&snapshots.recover(0).unwrap()), [10]);
    assert_eq!(names(&dir.path().join("00")).len(), 1);
    Snapshots::open(dir.path()).unwrap();
    assert!(!dir.path().join("scratch").exists());
    assert_eq!(seal(&snapshots, 30).next(), 30);
}

#[test]
fn a_snapshot_of_another_shard_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = two(dir.path());
    fs::create_dir_all(dir.path().join("01")).unwrap();
    fs::rename(
        newest(dir.path()),
        dir.path().join("01/00000000000000000020"),
    )
    .unwrap();
    assert!(snapshots.recover(1).unwrap().good.is_empty());
    assert_eq!(nexts(&snapshots.recover(0).unwrap()), [10]);
}

#[test]
fn sealing_at_the_same_place_again_gives_the_same_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = two(dir.path());
    let before = fs::read(newest(dir.path()).join("manifest")).unwrap();
    seal(&snapshots, 20);
    assert_eq!(
        fs::read(newest(dir.path()).join("manifest")).unwrap(),
        before
    );
}

#[test]
fn a_sound_snapshot_that_cannot_be_read_now_is_not_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = two(dir.path());
    // As if there were no room for a copy: the scratch directory cannot be made.
    fs::remove_dir_all(dir.path().join("scratch")).unwrap();
    fs::write(dir.path().join("scratch"), b"").unwrap();
    let error = snapshots.recover(0).unwrap_err();
    assert!(matches!(error, SnapshotError::File(_)), "{error}");
    fs::remove_file(dir.path().join("scratch")).unwrap();

    let path = newest(dir.path()).join("manifest");
    let ours = fs::read(&path).unwrap();
    let mut later = ours[..ours.len() - blake3::OUT_LEN].to_vec();
    later[8] += 1;
    let hash = blake3::hash(&later);
    later.extend_from_slice(hash.as_bytes());
    fs::write(&path, later).unwrap();
    let error = snapshots.recover(0).unwrap_err();
    assert!(error.to_string().contains("run a newer one"), "{error}");
    fs::write(&path, ours).unwrap();
    assert_eq!(nexts(&snapshots.recover(0).unwrap()), [10, 20]);
}

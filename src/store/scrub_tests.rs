//! Walks over real files, damaged ones too.

use super::*;
use crate::store::{
    round::ShardWrite,
    snapshot::{Row, Snapshots},
};

/// Entries that were written say this, and nothing else is understood.
const TEXT: &[u8] = b"what is written";

fn understand() -> Understand {
    Arc::new(|_, stored| match stored.starts_with(TEXT) {
        true => Ok(()),
        false => Err("it says something else".to_owned()),
    })
}

fn write(log: &Log, index: u64, stored: Bytes) {
    let mut round = log.round();
    let write = ShardWrite {
        entries: vec![(index, stored)],
        ..ShardWrite::default()
    };
    round.push(write).unwrap();
    round.write().unwrap();
}

/// An entry of about `bytes` bytes.
fn text(bytes: usize) -> Bytes {
    let mut text = TEXT.to_vec();
    text.resize(bytes.max(TEXT.len()), b'.');
    text.into()
}

/// The bytes gone through, to the end or to the first damage.
fn finish(walk: Walk) -> Result<u64, Damage> {
    walk.sum()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn middle(path: &Path) -> usize {
    usize::try_from(fs::metadata(path).unwrap().len()).unwrap() / 2
}

/// The place in a file where some bytes are.
fn place_of(path: &Path, wanted: &[u8]) -> usize {
    let bytes = fs::read(path).unwrap();
    let mut windows = bytes.windows(wanted.len());
    windows.position(|window| window == wanted).unwrap()
}

#[test]
fn the_pause_keeps_any_number_of_bytes_below_the_rate() {
    for (bytes, rate, ms) in [
        (0, 1 << 20, 0),
        (1 << 20, 1 << 20, 1_000),
        (512 << 10, 1 << 20, 500),
        (1 << 20, 4 << 20, 250),
        (1, 1_000, 1),
    ] {
        assert_eq!(
            pause(bytes, rate),
            Duration::from_millis(ms),
            "{bytes} of {rate}"
        );
    }
    assert_eq!(pause(u64::MAX, 1), Duration::from_micros(u64::MAX));
    assert_eq!(pause(1, 0), Duration::MAX);
}

#[test]
fn a_clean_log_is_walked_whole_in_bounded_steps() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(Log::open(dir.path(), 2).unwrap());
    for index in 0..40 {
        write(&log, index, text(100 << 10));
    }
    let steps: Vec<u64> = entries(&log, 0, understand()).map(Result::unwrap).collect();
    assert_eq!(steps.iter().sum::<u64>(), 40 * (100 << 10));
    assert!(steps.iter().all(|bytes| *bytes <= STEP_BYTES as u64));
    assert_eq!(finish(entries(&log, 1, understand())).unwrap(), 0);
    // One file is still written to.
    assert_eq!(finish(log_files(&log)).unwrap(), 0);
}

#[test]
fn a_flipped_byte_in_an_entry_of_the_log_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(Log::open(dir.path(), 1).unwrap());
    for index in 0..40 {
        write(&log, index, text(100 << 10));
    }
    let file = files::list(log.dir()).unwrap();
    let file = file
        .iter()
        .find(|path| path.extension().is_some_and(|kind| kind == "raftlog"));
    let file = file.unwrap();
    flip(file, place_of(file, TEXT) + (50 << 10));
    let damage = finish(entries(&log, 0, understand())).unwrap_err();
    assert!(
        matches!(
            damage,
            Damage::Entries(ReadError::Corruption { shard: 0, .. })
        ),
        "{damage}"
    );
}

#[test]
fn an_entry_that_is_sound_and_means_nothing_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(Log::open(dir.path(), 1).unwrap());
    write(&log, 0, text(10));
    write(&log, 1, Bytes::from_static(b"something else"));
    let damage = finish(entries(&log, 0, understand())).unwrap_err();
    assert!(matches!(damage, Damage::Entry { index: 1, .. }), "{damage}");
}

#[test]
fn a_flipped_byte_between_entries_and_a_missing_file_of_the_log_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(Log::open(dir.path(), 1).unwrap());
    let large = text(16 << 20);
    for index in 0..10 {
        write(&log, index, large.clone());
    }
    let mut full = files::list(log.dir()).unwrap();
    full.retain(|path| path.extension().is_some_and(|kind| kind == "raftlog"));
    full.sort();
    assert!(full.len() > 2, "{full:?}");
    let sizes = |files: &[PathBuf]| {
        let size = |path: &PathBuf| fs::metadata(path).unwrap().len();
        files.iter().map(size).sum::<u64>()
    };
    let bytes = finish(log_files(&log)).unwrap();
    assert_eq!(bytes, sizes(&full[..full.len() - 1]));

    // The end of a file is the end of a block: which entries it holds.
    let last = middle(&full[0]) * 2 - 4;
    flip(&full[0], last);
    assert!(finish(entries(&log, 0, understand())).is_ok());
    let damage = finish(log_files(&log)).unwrap_err();
    assert!(
        matches!(&damage, Damage::LogFile { path, .. } if *path == full[0]),
        "{damage}"
    );
    flip(&full[0], last);

    fs::remove_file(&full[1]).unwrap();
    let damage = finish(log_files(&log)).unwrap_err();
    assert!(damage.to_string().contains("is missing"), "{damage}");
}

#[test]
fn a_flipped_byte_in_any_file_of_a_snapshot_is_found_and_a_clean_one_is_walked_whole() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(dir.path()).unwrap();
    let row = |number: u8| Row {
        key: vec![number],
        value: vec![number; 40_000],
    };
    let rows: Vec<Row> = (0..60).map(row).collect();
    let sealed = snapshots.seal(0, 10, b"place".to_vec(), &rows).unwrap();
    let tree = files::walk(sealed.dir()).unwrap();
    let of_rows: u64 = sealed.files().iter().map(|file| file.bytes).sum();
    assert_eq!(finish(snapshot(&sealed)).unwrap(), of_rows);
    assert!(of_rows > STEP_BYTES as u64);
    assert!(!snapshots.doubt(0, &sealed).unwrap());
    for file in &tree.files {
        let at = middle(file);
        if at == 0 {
            continue;
        }
        flip(file, at);
        let damage = finish(snapshot(&sealed)).unwrap_err();
        assert!(matches!(damage, Damage::Snapshot(_)), "{damage}");
        flip(file, at);
    }
    let file = tree.files.iter().find(|file| file.ends_with("db/db"));
    fs::remove_file(file.unwrap()).unwrap();
    assert!(finish(snapshot(&sealed)).is_err());
    assert!(snapshots.doubt(0, &sealed).unwrap());
    assert!(sealed.dir().with_extension("damaged").exists());
    // Deleted as a whole, it is damaged too.
    assert!(finish(snapshot(&sealed)).is_err());
    assert!(snapshots.doubt(0, &sealed).unwrap());
}

/// A backlog whose entries are in a table.
fn backlog(dir: &Path) -> Arc<Backlog> {
    let backlog = Backlog::open(dir).unwrap();
    let add: Vec<_> = (0..100).map(|index| (index, text(20 << 10))).collect();
    backlog.carry(0, 100, &add, &[]).unwrap();
    backlog.settle().unwrap();
    Arc::new(backlog)
}

#[test]
fn a_clean_backlog_is_walked_whole_and_one_of_another_meaning_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let backlog = backlog(dir.path());
    let tables_bytes = finish(tables(&backlog)).unwrap();
    let on_disk = |(path, _): (PathBuf, u128)| fs::metadata(path).unwrap().len();
    let expected: u64 = backlog.tables().into_iter().map(on_disk).sum();
    assert!(expected > 0);
    assert_eq!(tables_bytes, expected);
    let walked = finish(carried(&backlog, 0, understand()).unwrap()).unwrap();
    assert_eq!(walked, 100 * (20 << 10));
    let add = [(100, Bytes::from_static(b"something else"))];
    backlog.carry(0, 101, &add, &[]).unwrap();
    let damage = finish(carried(&backlog, 0, understand()).unwrap()).unwrap_err();
    assert!(
        matches!(damage, Damage::Entry { index: 100, .. }),
        "{damage}"
    );
}

#[test]
fn a_flipped_byte_in_the_backlog_is_found_also_when_its_entries_are_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let backlog = backlog(dir.path());
    // Now they are.
    assert!(finish(carried(&backlog, 0, understand()).unwrap()).is_ok());
    for (path, _) in backlog.tables() {
        for at in [0, middle(&path), 2 * middle(&path) - 1] {
            flip(&path, at);
            let damage = finish(tables(&backlog)).unwrap_err();
            assert!(
                matches!(&damage, Damage::Table { path: found, .. } if *found == path),
                "{damage}"
            );
            flip(&path, at);
        }
    }
    assert!(finish(tables(&backlog)).is_ok());
    let (path, _) = backlog.tables().remove(0);
    fs::remove_file(&path).unwrap();
    let damage = finish(tables(&backlog)).unwrap_err();
    assert!(damage.to_string().contains("is missing"), "{damage}");
}

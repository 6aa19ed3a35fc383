//! The log against real files, damaged ones too.

use super::*;
use crate::store::{
    mark::MarkError,
    round::{ShardWrite, WriteRefused},
};
use std::fs;

/// A write of entries `indexes` to a shard, each with its index and `tag` in it.
fn entries(shard: u16, indexes: Range<u64>, tag: &str) -> ShardWrite {
    let entries = indexes.map(|index| (index, data(index, tag))).collect();
    ShardWrite {
        shard,
        entries,
        ..ShardWrite::default()
    }
}

fn data(index: u64, tag: &str) -> Bytes {
    format!("{tag} {index}").into()
}

fn write(log: &Log, write: ShardWrite) {
    let mut round = log.round();
    round.push(write).unwrap();
    round.write().unwrap();
}

fn read_all(log: &Log, shard: u16) -> Vec<(u64, Bytes)> {
    let span = log.span(shard);
    let mut all = Vec::new();
    let mut from = span.start;
    while from < span.end {
        let some = log.read(shard, from, span.end, 1 << 20).unwrap();
        from = some.last().unwrap().0 + 1;
        all.extend(some);
    }
    all
}

#[test]
fn what_was_written_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), 16).unwrap();
    let mut round = log.round();
    for shard in 0..16 {
        let vote = Some(vec![u8::try_from(shard).unwrap(); 3]);
        round
            .push(ShardWrite {
                vote,
                ..entries(shard, 0..5, "a")
            })
            .unwrap();
        round.push(entries(shard, 5..8, "a")).unwrap();
    }
    assert_eq!(round.entries(), 16 * 8);
    round.write().unwrap();
    drop(log);

    let log = Log::open(dir.path(), 16).unwrap();
    for shard in 0..16 {
        assert_eq!(log.span(shard), 0..8);
        let expected: Vec<_> = (0..8).map(|i| (i, data(i, "a"))).collect();
        assert_eq!(read_all(&log, shard), expected);
        assert_eq!(
            log.vote(shard).unwrap(),
            vec![u8::try_from(shard).unwrap(); 3]
        );
        assert_eq!(log.committed(shard), None);
    }
    assert!(log.bytes() > 0);
}

#[test]
fn a_gap_is_refused_and_the_log_still_opens() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), 2).unwrap();
    write(&log, entries(1, 0..3, "a"));

    let mut round = log.round();
    let refused = round.push(entries(1, 4..5, "a")).unwrap_err();
    assert_eq!(
        refused,
        WriteRefused::Gap {
            shard: 1,
            index: 4,
            next: 3
        }
    );
    let refused = round.push(entries(1, 2..4, "a")).unwrap_err();
    assert_eq!(
        refused,
        WriteRefused::Gap {
            shard: 1,
            index: 2,
            next: 3
        }
    );
    let mut torn = entries(1, 3..4, "a");
    torn.entries.push((5, Bytes::new()));
    let refused = round.push(torn).unwrap_err();
    assert_eq!(
        refused,
        WriteRefused::Gap {
            shard: 1,
            index: 5,
            next: 4
        }
    );
    let refused = round.push(entries(2, 0..1, "a")).unwrap_err();
    assert_eq!(
        refused,
        WriteRefused::UnknownShard {
            shard: 2,
            shards: 2
        }
    );
    assert!(round.is_empty());
    drop(log);

    let log = Log::open(dir.path(), 2).unwrap();
    assert_eq!(log.span(1), 0..3);
    write(&log, entries(1, 3..4, "a"));
    assert_eq!(log.span(1), 0..4);
}

#[test]
fn a_truncated_log_reads_and_reopens_with_the_new_entries() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), 1).unwrap();
    write(&log, entries(0, 0..10, "old"));
    log.truncate(0, 6).unwrap();
    assert_eq!(log.span(0), 0..6);
    assert_eq!(log.read(0, 4, 10, 1 << 20).unwrap().len(), 2);
    write(&log, entries(0, 6..8, "new"));
    drop(log);

    let log = Log::open(dir.path(), 1).unwrap();
    assert_eq!(log.span(0), 0..8);
    let all = read_all(&log, 0);
    assert_eq!(all[5].1, data(5, "old"));
    assert_eq!(all[6].1, data(6, "new"));
    assert_eq!(all[7].1, data(7, "new"));
}

#[test]
fn a_truncation_without_an_append_brings_the_old_entries_back_and_raises_no_alarm() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), 1).unwrap();
    write(&log, entries(0, 0..10, "old"));
    log.truncate(0, 0).unwrap();
    assert!(log.span(0).is_empty());
    drop(log);
    assert_eq!(Log::open(dir.path(), 1).unwrap().span(0), 0..10);
}

#[test]
fn a_log_shorter_than_its_mark_refuses_to_open() {
    let dir = tempfile::tempdir().unwrap();
    write(&Log::open(dir.path(), 4).unwrap(), entries(3, 0..21, "a"));
    let mut mark = Mark::open(&dir.path().join("mark"), 4, false).unwrap();
    mark.set(
        3,
        Slot {
            next: 26,
            ..mark.slot(3)
        },
    )
    .unwrap();
    drop(mark);

    let error = Log::open(dir.path(), 4).err().unwrap();
    assert!(
        matches!(
            error,
            OpenError::Short {
                shard: 3,
                next: 21,
                acknowledged: 25
            }
        ),
        "{error}"
    );
    assert_eq!(
        error.to_string(),
        "shard 3: the log ends at 20, but 25 was acknowledged: this node must not vote; \
         rebuild it from its peers"
    );
}

#[test]
fn an_emptied_directory_does_not_start_as_new() {
    let dir = tempfile::tempdir().unwrap();
    write(&Log::open(dir.path(), 1).unwrap(), entries(0, 0..5, "a"));
    fs::remove_dir_all(dir.path().join("engine")).unwrap();
    let error = Log::open(dir.path(), 1).err().unwrap();
    assert!(
        matches!(
            error,
            OpenError::Short {
                next: 0,
                acknowledged: 4,
                ..
            }
        ),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .starts_with("shard 0: the log is empty, but 4"),
        "{error}"
    );
}

#[test]
fn a_lost_mark_refuses_to_open() {
    let dir = tempfile::tempdir().unwrap();
    write(&Log::open(dir.path(), 1).unwrap(), entries(0, 0..5, "a"));
    fs::remove_file(dir.path().join("mark")).unwrap();
    let error = Log::open(dir.path(), 1).err().unwrap();
    assert!(
        matches!(error, OpenError::Mark(MarkError::Missing { .. })),
        "{error}"
    );
}

#[test]
fn a_flipped_bit_in_the_mark_refuses_to_open() {
    let dir = tempfile::tempdir().unwrap();
    write(&Log::open(dir.path(), 2).unwrap(), entries(1, 0..5, "a"));
    let path = dir.path().join("mark");
    let mut bytes = fs::read(&path).unwrap();
    bytes[64] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = Log::open(dir.path(), 2).err().unwrap();
    assert!(
        matches!(error, OpenError::Mark(MarkError::Checksum { shard: 1, .. })),
        "{error}"
    );
}

#[test]
fn a_vote_or_rewritten_entries_cut_off_the_end_refuse_to_open() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), 1).unwrap();
    write(&log, entries(0, 0..5, "old"));
    let before = newest_file(dir.path());
    let kept = fs::read(&before).unwrap();
    write(
        &log,
        ShardWrite {
            vote: Some(vec![1]),
            ..ShardWrite::default()
        },
    );
    log.truncate(0, 4).unwrap();
    write(&log, entries(0, 4..5, "new"));
    drop(log);

    // As if the frame after the first round had been damaged: the same length, other contents.
    fs::write(&before, kept).unwrap();
    let error = Log::open(dir.path(), 1).err().unwrap();
    assert!(
        matches!(
            error,
            OpenError::Behind {
                shard: 0,
                writes: 1,
                acknowledged: 3
            }
        ),
        "{error}"
    );
}

#[test]
fn a_flipped_bit_never_shortens_the_log_silently() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), 1).unwrap();
    for index in 0..20 {
        write(&log, entries(0, index..index + 1, "some bytes"));
    }
    drop(log);
    let file = newest_file(dir.path());
    let good = fs::read(&file).unwrap();
    let mark = fs::read(dir.path().join("mark")).unwrap();
    let mut refused = 0;
    for at in (0..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(&file, &bad).unwrap();
        fs::write(dir.path().join("mark"), &mark).unwrap();
        match Log::open(dir.path(), 1) {
            Err(_) => refused += 1,
            // The flip is in an entry: seen when it is read.
            Ok(log) => match log.read(0, 0, 20, 1 << 20) {
                Err(error) => assert!(matches!(error, ReadError::Corruption { .. }), "{error}"),
                Ok(all) => {
                    let expected: Vec<_> = (0..20).map(|i| (i, data(i, "some bytes"))).collect();
                    assert_eq!(all, expected, "byte {at}");
                }
            },
        }
    }
    assert!(refused > 0);
}

#[test]
fn a_second_process_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let _log = Log::open(dir.path(), 1).unwrap();
    let error = Log::open(dir.path(), 1).err().unwrap();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
}

#[test]
fn a_log_opens_again_while_a_process_that_starts_still_shares_the_files_of_before() {
    let dir = tempfile::tempdir().unwrap();
    drop(Log::open(dir.path(), 1).unwrap());
    // What such a process has: the open file, and the lock with it, until it is another program.
    let shared = std::fs::File::open(dir.path().join("engine/LOCK")).unwrap();
    shared.lock().unwrap();
    let opened = std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            drop(shared);
        });
        Log::open(dir.path(), 1).map(drop)
    });
    opened.unwrap();
}

#[test]
fn a_log_that_lost_its_first_file_refuses_to_open() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), 1).unwrap();
    let large = Bytes::from(vec![7; 8 << 20]);
    for index in 0..10 {
        let entries = vec![(index, large.clone())];
        write(
            &log,
            ShardWrite {
                entries,
                ..ShardWrite::default()
            },
        );
    }
    drop(log);
    let mut files = files::list(&dir.path().join("engine")).unwrap();
    files.retain(|path| path.extension().is_some_and(|x| x == "raftlog"));
    files.sort();
    assert!(files.len() > 1, "{files:?}");
    fs::remove_file(&files[0]).unwrap();
    let error = Log::open(dir.path(), 1).err().unwrap();
    assert!(
        matches!(error, OpenError::Headless { shard: 0, .. }),
        "{error}"
    );
}

#[test]
fn discarded_entries_stay_discarded_and_the_rest_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), 2).unwrap();
    write(&log, entries(0, 0..20, "a"));
    write(&log, entries(1, 0..3, "b"));
    log.discard(0, 12, b"eleven").unwrap();
    assert_eq!(log.span(0), 12..20);
    assert_eq!(log.read(0, 0, 12, usize::MAX).unwrap(), vec![]);
    drop(log);
    let log = Log::open(dir.path(), 2).unwrap();
    assert_eq!(log.span(0), 12..20);
    assert_eq!(log.discarded(0), Some(b"eleven".to_vec()));
    assert_eq!(log.discarded(1), None);
    let expected: Vec<_> = (12..20).map(|i| (i, data(i, "a"))).collect();
    assert_eq!(read_all(&log, 0), expected);
    assert_eq!(read_all(&log, 1).len(), 3);
    // Discarding less than before changes nothing.
    log.discard(0, 5, b"eleven").unwrap();
    assert_eq!(log.span(0), 12..20);
}

#[test]
fn a_log_of_which_everything_was_discarded_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), 1).unwrap();
    write(&log, entries(0, 0..20, "a"));
    log.truncate(0, 15).unwrap();
    log.discard(0, 17, b"sixteen").unwrap();
    assert_eq!(log.span(0), 17..17);
    drop(log);
    let log = Log::open(dir.path(), 1).unwrap();
    assert_eq!(log.span(0), 17..17);
    write(&log, entries(0, 17..19, "b"));
    drop(log);
    let log = Log::open(dir.path(), 1).unwrap();
    assert_eq!(
        read_all(&log, 0),
        [(17, data(17, "b")), (18, data(18, "b"))]
    );
}

#[test]
fn entries_lost_after_a_discard_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), 1).unwrap();
    write(&log, entries(0, 0..20, "a"));
    log.discard(0, 12, b"").unwrap();
    let engine = dir.path().join("engine");
    let saved = dir.path().join("saved");
    fs::create_dir(&saved).unwrap();
    for file in files::list(&engine).unwrap() {
        fs::copy(&file, saved.join(file.file_name().unwrap())).unwrap();
    }
    write(&log, entries(0, 20..25, "a"));
    drop(log);
    fs::remove_dir_all(&engine).unwrap();
    fs::rename(&saved, &engine).unwrap();
    let error = Log::open(dir.path(), 1).err().unwrap();
    assert!(
        matches!(
            error,
            OpenError::Short {
                next: 20,
                acknowledged: 24,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn files_of_discarded_entries_are_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), 1).unwrap();
    let large = Bytes::from(vec![7; 16 << 20]);
    for index in 0..22 {
        let entries = vec![(index, large.clone())];
        write(
            &log,
            ShardWrite {
                entries,
                ..ShardWrite::default()
            },
        );
    }
    log.measure().unwrap();
    let before = log.bytes();
    log.discard(0, 21, b"").unwrap();
    assert_eq!(log.collect().unwrap(), Vec::<u16>::new());
    log.measure().unwrap();
    assert!(
        log.bytes() < before - (32 << 20),
        "{} of {before}",
        log.bytes()
    );
    drop(log);
    assert_eq!(Log::open(dir.path(), 1).unwrap().span(0), 21..22);
}

#[test]
fn a_read_stops_at_its_limit_but_always_returns_an_entry() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), 1).unwrap();
    let large = Bytes::from(vec![7; 700 << 10]);
    let entries: Vec<_> = (0..6).map(|index| (index, large.clone())).collect();
    write(
        &log,
        ShardWrite {
            entries,
            ..ShardWrite::default()
        },
    );
    assert_eq!(log.read(0, 2, 6, 1).unwrap().len(), 1);
    assert_eq!(log.read(0, 2, 6, 1500 << 10).unwrap().len(), 2);
    assert_eq!(log.read(0, 2, u64::MAX, usize::MAX).unwrap().len(), 4);
    assert_eq!(log.read(0, 6, 9, usize::MAX).unwrap(), vec![]);
    assert_eq!(log.read(7, 0, 9, usize::MAX).unwrap(), vec![]);
    assert_eq!(read_all(&log, 0).len(), 6);
}

fn newest_file(dir: &Path) -> PathBuf {
    let mut files = files::list(&dir.join("engine")).unwrap();
    files.retain(|path| path.extension().is_some_and(|x| x == "raftlog"));
    files.sort();
    files.pop().unwrap()
}

//! All that a node keeps on its disk, on a real file system that is filled to the last byte.

use super::{
    Disk,
    backlog::Backlog,
    engine_files::Files,
    files,
    log::Log,
    open::Sizes,
    round::{ShardWrite, WriteFault},
    scrub,
    snapshot::{Row, Snapshots},
    writer::LogWriter,
};
use bytes::Bytes;
use raft_engine::ReadableSize;
use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

#[path = "../../tests/support/full_disk.rs"]
#[expect(
    unreachable_pub,
    dead_code,
    reason = "it is shared with the tests of whole nodes"
)]
mod full_disk;

use full_disk::Image;

/// How long a test waits for what must happen.
const WITHIN: Duration = Duration::from_secs(30);
/// Bytes of a message of the story that was reported.
const MESSAGE_BYTES: usize = 6_000;

fn entry(index: u64, bytes: usize) -> (u64, Bytes) {
    let mut text = format!("entry {index} ").into_bytes();
    text.resize(bytes, b'x');
    (index, text.into())
}

fn write_of(shard: u16, index: u64, bytes: usize) -> ShardWrite {
    ShardWrite {
        shard,
        entries: vec![entry(index, bytes)],
        vote: Some(index.to_le_bytes().to_vec()),
        committed: None,
    }
}

fn small(dir: &Path) -> Log {
    let sizes = Sizes {
        file: ReadableSize::kb(16),
        collect: ReadableSize::kb(64),
    };
    Log::open_with(dir, 2, Files::default(), sizes).unwrap()
}

/// What a process that is killed in this moment leaves, as another directory.
fn killed(dir: &Path, to: &Path) {
    let tree = files::walk(dir).unwrap();
    for path in tree.dirs.iter().rev().chain(&tree.dirs) {
        fs::create_dir_all(to.join(path.strip_prefix(dir).unwrap())).unwrap();
    }
    for path in &tree.files {
        fs::copy(path, to.join(path.strip_prefix(dir).unwrap())).unwrap();
    }
}

/// Entries `0..next` of a shard are there, but for what was discarded, and nothing is damaged.
fn is_whole(log: &Arc<Log>, shard: u16, next: u64, bytes: usize) {
    let span = log.span(shard);
    assert!(
        span.end >= next,
        "shard {shard} ends at {}, not at {next}",
        span.end
    );
    let mut from = span.start;
    while from < next {
        let some = log.read(shard, from, next, 1 << 20).unwrap();
        for found in &some {
            assert_eq!(*found, entry(found.0, bytes));
        }
        from = some.last().unwrap().0 + 1;
    }
    let vote = log.vote(shard).unwrap();
    assert!(u64::from_le_bytes(vote.try_into().unwrap()) + 1 >= next);
    let scrubbed: Result<u64, _> = scrub::log_files(log).sum();
    scrubbed.unwrap_or_else(|damage| panic!("nothing is damaged: {damage}"));
}

#[test]
fn a_disk_that_fills_at_each_write_in_turn_loses_nothing() {
    let root = tempfile::tempdir().unwrap();
    let what = "a disk that fills at each write in turn";
    let Some(mut image) = Image::or_skipped(root.path(), "each", 48, what) else {
        return;
    };
    let (writes, bytes) = (40_u64, 2_000);
    let mut full = 0;
    for full_at in 0..writes {
        let dir = image.dir().join(format!("log-{full_at}"));
        let log = Arc::new(small(&dir));
        let mut refused = 0;
        for index in 0..writes {
            let shard = u16::try_from(index % 2).unwrap();
            if index == full_at {
                image.fill();
            }
            let mut round = log.round();
            round.push(write_of(shard, index / 2, bytes)).unwrap();
            while let Err(fault) = round.write() {
                assert!(matches!(fault, WriteFault::Later(_)), "{fault}");
                drop(log.collect());
                refused += 1;
                full += 1;
                if refused == 1 {
                    // Killed while the disk is full, and started elsewhere.
                    let copy = root.path().join(format!("full-{full_at}"));
                    killed(&dir, &copy);
                    // The other shard: entries of even numbers come first, so each has as many before this one.
                    let other = 1 - shard;
                    let next = if shard == 0 { index / 2 } else { index / 2 + 1 };
                    if next > 0 {
                        is_whole(&Arc::new(small(&copy)), other, next, bytes);
                    }
                    fs::remove_dir_all(copy).unwrap();
                } else if refused == 3 {
                    image.free();
                }
            }
            if index % 10 == 9 {
                let below = (index / 2).saturating_sub(4);
                while log.discard(0, below, b"last").is_err() {
                    image.free();
                }
            }
            if index % 3 == 2 {
                drop(log.collect());
            }
        }
        image.free();
        for shard in 0..2 {
            is_whole(&log, shard, writes / 2, bytes);
        }
        let copy = root.path().join(format!("killed-{full_at}"));
        killed(&dir, &copy);
        let again = Arc::new(small(&copy));
        for shard in 0..2 {
            is_whole(&again, shard, writes / 2, bytes);
        }
        drop((again, log));
        fs::remove_dir_all(copy).unwrap();
        fs::remove_dir_all(dir).unwrap();
    }
    assert!(full >= writes, "only {full} writes met a full disk");
}

async fn until(what: &str, is_true: impl Fn() -> bool) {
    let deadline = Instant::now() + WITHIN;
    while !is_true() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_whose_disk_was_full_for_a_while_goes_on_and_a_kill_then_costs_nothing() {
    let root = tempfile::tempdir().unwrap();
    let what = "a disk of the size that was reported, full for a while";
    let Some(mut image) = Image::or_skipped(root.path(), "story", 160, what) else {
        return;
    };
    let dir = image.dir().join("log");
    let log = Arc::new(Log::open(&dir, 4).unwrap());
    let writer = LogWriter::start(Arc::clone(&log), u64::MAX).unwrap();
    let written: Arc<[AtomicU64; 4]> = Arc::default();
    let mut next = [0; 4];
    // What is taken while there is room goes on being written when there is none.
    for fills in 0..3 {
        for turn in 0_u64..1_200 {
            if turn == 600 {
                image.fill();
            }
            let shard = u16::try_from(turn % 4).unwrap();
            if writer.full().is_some() && turn > 700 {
                break;
            }
            let place = usize::from(shard);
            let (index, counted) = (next[place], Arc::clone(&written));
            next[place] += 1;
            let done = Box::new(move |result: Result<(), _>| {
                result.unwrap();
                counted[place].fetch_max(index + 1, Ordering::SeqCst);
            });
            writer
                .write(write_of(shard, index, MESSAGE_BYTES), done)
                .await
                .unwrap();
        }
        until("the full disk is noticed", || writer.is_disk_full()).await;
        let full = writer.full().unwrap();
        assert!(full.disk_bytes_free.is_some(), "{full}");
        image.free();
        until("there is room again", || writer.full().is_none()).await;
        let all = || (0..4).all(|shard| written[shard].load(Ordering::SeqCst) == next[shard]);
        until("all that was taken is written", all).await;
        for (shard, next) in (0..).zip(next) {
            is_whole(&log, shard, next, MESSAGE_BYTES);
        }
        let copy = root.path().join(format!("killed-{fills}"));
        killed(&dir, &copy);
        let again = Arc::new(Log::open(&copy, 4).unwrap());
        for (shard, next) in (0..).zip(next) {
            is_whole(&again, shard, next, MESSAGE_BYTES);
        }
        drop(again);
        fs::remove_dir_all(copy).unwrap();
    }
    writer.close().await;
}

#[test]
fn a_backlog_whose_disk_was_full_takes_entries_again_without_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let what = "a backlog on a full disk";
    let Some(mut image) = Image::or_skipped(root.path(), "backlog", 64, what) else {
        return;
    };
    let backlog = Backlog::open(&image.dir().join("backlog")).unwrap();
    let entries = |from: u64| -> Vec<_> {
        (from..from + 50)
            .map(|index| entry(index, 20_000))
            .collect()
    };
    backlog.carry(0, 50, &entries(0), &[]).unwrap();
    image.fill();
    let mut last = None;
    for _ in 0..3 {
        let refused = backlog.carry(0, 100, &entries(50), &[]).unwrap_err();
        assert!(!refused.is_damage(), "{refused}");
        assert!(refused.to_string().contains("free space"), "{refused}");
        last = Some(refused);
    }
    assert!(last.is_some());
    assert_eq!(backlog.carried(0), 50);
    assert_eq!(backlog.entry(0, 7).unwrap().unwrap(), entry(7, 20_000).1);
    image.free();
    backlog.carry(0, 100, &entries(50), &[]).unwrap();
    assert_eq!(backlog.carried(0), 100);
    drop(backlog);
    let backlog = Backlog::open(&image.dir().join("backlog")).unwrap();
    for index in 0..100 {
        assert_eq!(
            backlog.entry(0, index).unwrap().unwrap(),
            entry(index, 20_000).1
        );
    }
}

fn rows() -> Vec<Row> {
    let row = |number: u32| Row {
        key: number.to_be_bytes().to_vec(),
        value: vec![u8::try_from(number % 251).unwrap(); 40_000],
    };
    (0..300).map(row).collect()
}

#[tokio::test]
async fn a_node_starts_on_a_disk_that_is_full_to_the_last_byte_again_and_again() {
    let root = tempfile::tempdir().unwrap();
    let what = "a start on a full disk";
    let Some(mut image) = Image::or_skipped(root.path(), "start", 192, what) else {
        return;
    };
    let dir = image.dir().join("data");
    let disk = Disk::open(&dir, 2, u64::MAX).unwrap();
    for shard in 0..2 {
        disk.snapshots
            .seal(shard, 10, b"place".to_vec(), &rows())
            .unwrap();
    }
    disk.writer
        .write_durably(write_of(0, 0, 100))
        .await
        .unwrap();
    let add: Vec<_> = (0..20).map(|index| entry(index, 20_000)).collect();
    disk.backlog.carry(0, 20, &add, &[]).unwrap();
    disk.snapshots.hold_room();
    disk.release().await.unwrap();
    image.fill();
    for start in 0..4_u64 {
        let disk = Disk::open(&dir, 2, u64::MAX).unwrap();
        assert!(disk.writer.is_disk_full());
        let (first, second) = std::thread::scope(|scope| {
            let recover = |shard| disk.snapshots.recover(shard).unwrap();
            let first = scope.spawn(move || recover(0));
            (first.join().unwrap(), recover(1))
        });
        for recovered in [first, second] {
            assert_eq!(recovered.rows, rows());
            assert_eq!(recovered.good.len(), 1);
        }
        assert_eq!(
            disk.backlog.entry(0, 7).unwrap().unwrap(),
            entry(7, 20_000).1
        );
        // As a node alone does, which votes for itself when it starts.
        let vote = ShardWrite {
            vote: Some(vec![u8::try_from(start).unwrap()]),
            ..ShardWrite::default()
        };
        disk.writer.write_durably(vote).await.unwrap();
        disk.snapshots.hold_room();
        disk.release().await.unwrap();
    }
    image.free();
    let disk = Disk::open(&dir, 2, u64::MAX).unwrap();
    assert!(disk.writer.full().is_none());
    assert_eq!(disk.log.vote(0), Some(vec![3]));
    disk.release().await.unwrap();
}

#[test]
fn a_snapshot_that_is_sealed_on_a_full_disk_fails_whole_and_the_one_before_stays() {
    let root = tempfile::tempdir().unwrap();
    let what = "sealing on a full disk";
    let Some(mut image) = Image::or_skipped(root.path(), "seal", 96, what) else {
        return;
    };
    let dir = image.dir().join("snapshots");
    let snapshots = Snapshots::open(&dir).unwrap();
    snapshots.seal(0, 10, b"place".to_vec(), &rows()).unwrap();
    image.fill();
    assert!(snapshots.seal(0, 20, b"later".to_vec(), &rows()).is_err());
    image.free();
    let recovered = snapshots.recover(0).unwrap();
    assert_eq!(recovered.good.len(), 1);
    assert_eq!(recovered.rows, rows());
    snapshots.seal(0, 20, b"later".to_vec(), &rows()).unwrap();
    assert_eq!(snapshots.recover(0).unwrap().good.len(), 2);
}

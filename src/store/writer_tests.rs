//! The writer thread against real files.

use super::*;
use bytes::Bytes;
use std::sync::Mutex;

fn entry(shard: u16, index: u64, bytes: usize) -> ShardWrite {
    let entries = vec![(index, Bytes::from(vec![1; bytes]))];
    ShardWrite {
        shard,
        entries,
        ..ShardWrite::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiters_are_told_in_the_order_they_came_and_share_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(Log::open(dir.path(), 4).unwrap());
    let writer = LogWriter::start(log.clone(), u64::MAX).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    for index in 0..500 {
        for shard in 0..4 {
            let told = told.clone();
            let done = Box::new(move |result: Result<(), WriteRefused>| {
                result.unwrap();
                told.lock().unwrap().push((index, shard));
            });
            writer.write(entry(shard, index, 100), done).await.unwrap();
        }
    }
    writer.close().await;
    let expected: Vec<_> = (0..500).flat_map(|i| (0..4).map(move |s| (i, s))).collect();
    assert_eq!(*told.lock().unwrap(), expected);
    let rounds = writer.counts().rounds.load(Ordering::Relaxed);
    assert_eq!(writer.counts().entries.load(Ordering::Relaxed), 2_000);
    assert!(rounds < 1_000, "{rounds} rounds");
    assert_eq!(log.span(3), 0..500);
}

#[tokio::test]
async fn a_gap_is_refused_to_its_writer_alone() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(Log::open(dir.path(), 2).unwrap());
    let writer = LogWriter::start(log.clone(), u64::MAX).unwrap();
    writer.write_durably(entry(0, 0, 10)).await.unwrap();
    let (gap, sound) = tokio::join!(
        writer.write_durably(entry(0, 5, 10)),
        writer.write_durably(entry(1, 0, 10))
    );
    assert_eq!(
        gap,
        Err(WriteRefused::Gap {
            shard: 0,
            index: 5,
            next: 1
        })
    );
    assert_eq!(sound, Ok(()));
    writer.write_durably(entry(0, 1, 10)).await.unwrap();
    assert_eq!(writer.counts().refused.load(Ordering::Relaxed), 1);
    assert_eq!(log.span(0), 0..2);
}

#[tokio::test]
async fn a_truncation_keeps_its_place_among_the_writes() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(Log::open(dir.path(), 1).unwrap());
    let writer = LogWriter::start(log.clone(), u64::MAX).unwrap();
    for index in 0..5 {
        writer
            .write(entry(0, index, 10), Box::new(|result| result.unwrap()))
            .await
            .unwrap();
    }
    writer.truncate(0, 3).await.unwrap();
    writer.write_durably(entry(0, 3, 20)).await.unwrap();
    assert_eq!(log.span(0), 0..4);
    assert_eq!(log.read(0, 3, 4, 1 << 20).unwrap()[0].1.len(), 20);
}

#[tokio::test]
async fn the_limit_is_told_to_who_asks_and_never_to_who_writes() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(Log::open(dir.path(), 1).unwrap());
    let max = log.bytes() + 100_000;
    let writer = LogWriter::start(log.clone(), max).unwrap();
    writer.admit(1_000).unwrap();
    assert!(writer.admit(100_001).is_err());
    writer.write_durably(entry(0, 0, 200_000)).await.unwrap();
    let full = writer.admit(0).unwrap_err();
    assert!(full.bytes > max && full.max == max, "{full}");
    writer.write_durably(entry(0, 1, 10)).await.unwrap();
    assert_eq!(log.read(0, 0, 2, 1 << 20).unwrap().len(), 2);
}

#[tokio::test]
async fn a_closed_writer_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(Log::open(dir.path(), 1).unwrap());
    let writer = LogWriter::start(log, u64::MAX).unwrap();
    writer.close().await;
    writer.close().await;
    assert_eq!(
        writer.write_durably(entry(0, 0, 1)).await,
        Err(WriteRefused::Stopped)
    );
}

#[tokio::test]
async fn the_mark_is_synced_about_once_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(Log::open(dir.path(), 1).unwrap());
    let writer = LogWriter::start(log, u64::MAX).unwrap();
    let started = Instant::now();
    let mut index = 0;
    while started.elapsed() < Duration::from_millis(2_500) {
        writer.write_durably(entry(0, index, 10)).await.unwrap();
        index += 1;
    }
    let syncs = writer.counts().mark_syncs.load(Ordering::Relaxed);
    let seconds = started.elapsed().as_secs();
    assert!(
        (1..=seconds + 1).contains(&syncs),
        "{syncs} syncs of the mark in {seconds} s"
    );
}

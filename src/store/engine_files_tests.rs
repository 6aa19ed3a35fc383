//! The real engine on a file system that fails at each of its calls in turn.

use super::*;
use crate::store::{
    log::{CollectError, Log},
    open::{OpenError, Sizes},
    round::{ShardWrite, WriteFault},
    scrub,
};
use bytes::Bytes;
use raft_engine::{Config, Engine, ReadableSize};
use rustix::io::Errno;
use std::{
    cell::Cell,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Once,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use tempfile::TempDir;

const SHARDS: u16 = 3;
/// Steps of a run: enough for several rotations of both queues, deletions and restarts.
const STEPS: u64 = 110;
/// Bytes of an entry.
const ENTRY_BYTES: usize = 700;
/// Tries of one write on a disk that is full for a while, at most.
const TRIES_MAX: usize = 1_000;

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
struct Fault {
    /// The number of the first call that fails.
    at: usize,
    /// How many calls fail.
    lasts: usize,
    errno: Errno,
    /// Of a write, half goes through before it fails.
    short: bool,
    /// The process ends there.
    dies: bool,
}

/// Counts calls, and fails some of them.
#[derive(Default)]
struct Trouble {
    calls: AtomicUsize,
    fault: Option<Fault>,
    dead: AtomicBool,
}

impl Trouble {
    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }
}

impl Gate for Trouble {
    fn pass(&self, call: Call, bytes: usize) -> io::Result<usize> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        if self.is_dead() {
            let gone = || io::Error::from(Errno::IO);
            // The engine panics where a sync fails, also while it is dropped.
            return if call == Call::Sync {
                Ok(0)
            } else {
                Err(gone())
            };
        }
        let Some(fault) = self.fault else {
            return Ok(bytes);
        };
        if !(fault.at..fault.at.saturating_add(fault.lasts)).contains(&number) {
            return Ok(bytes);
        }
        if call == Call::Write && fault.short && number == fault.at && bytes > 1 {
            return Ok(bytes / 2);
        }
        // A sync that fails ends the process.
        if fault.dies || call == Call::Sync {
            self.dead.store(true, Ordering::SeqCst);
        }
        Err(fault.errno.into())
    }
}

/// Runs on a thread of its own: the engine keeps the block that a thread read last, whichever log it is of.
fn apart<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    let quiet = QUIET.get();
    let run = move || {
        QUIET.set(quiet);
        run()
    };
    std::thread::scope(|scope| match scope.spawn(run).join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// What was acknowledged of a shard.
#[derive(Clone, Default)]
struct Acked {
    entries: BTreeMap<u64, Bytes>,
    vote: Option<Vec<u8>>,
    /// Written, perhaps; nobody was told.
    vote_tried: Option<Vec<u8>>,
    start: u64,
    /// Discarded, perhaps.
    start_tried: u64,
    next: u64,
}

/// The process has to end.
#[derive(Debug)]
struct Died;

struct Run {
    dir: TempDir,
    trouble: Arc<Trouble>,
    log: Option<Arc<Log>>,
    acked: Vec<Acked>,
    /// Files that there were, by queue.
    seen: BTreeMap<String, usize>,
    deleted: bool,
}

fn sizes() -> Sizes {
    Sizes {
        file: ReadableSize::kb(8),
        collect: ReadableSize::kb(32),
    }
}

fn open(dir: &Path, trouble: &Arc<Trouble>) -> Result<Arc<Log>, OpenError> {
    let gate: Arc<dyn Gate> = Arc::<Trouble>::clone(trouble);
    Log::open_with(dir, SHARDS, Files::behind(gate), sizes()).map(Arc::new)
}

fn data(shard: u16, index: u64, step: u64) -> Bytes {
    let mut data = format!("{shard} {index} {step} ").into_bytes();
    data.resize(ENTRY_BYTES, b'x');
    data.into()
}

impl Run {
    fn new(fault: Option<Fault>) -> Self {
        // What is not on a disk is synced in no time.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() {
            tempfile::tempdir_in(memory).unwrap()
        } else {
            tempfile::tempdir().unwrap()
        };
        Self {
            dir,
            trouble: Arc::new(Trouble {
                fault,
                ..Trouble::default()
            }),
            log: None,
            acked: vec![Acked::default(); usize::from(SHARDS)],
            seen: BTreeMap::new(),
            deleted: false,
        }
    }

    /// Opens the log, again where the disk is full for a while.
    fn start(&mut self) -> Result<(), Died> {
        for _ in 0..TRIES_MAX {
            let opened = catch_unwind(AssertUnwindSafe(|| open(self.dir.path(), &self.trouble)));
            match opened {
                Ok(Ok(log)) => {
                    self.log = Some(log);
                    return Ok(());
                }
                Ok(Err(error)) => {
                    assert!(
                        matches!(error, OpenError::File(_)),
                        "the disk failed, the log is sound: {error}"
                    );
                }
                Err(_) => {}
            }
            if self.trouble.is_dead() {
                return Err(Died);
            }
        }
        panic!("it never opens");
    }

    fn log(&self) -> Arc<Log> {
        Arc::clone(self.log.as_ref().unwrap())
    }

    /// Does it until it is done; a fault that does not pass ends the process.
    fn until_done(&self, work: impl Fn(&Log) -> Result<(), WriteFault>) -> Result<(), Died> {
        let log = self.log();
        for _ in 0..TRIES_MAX {
            match catch_unwind(AssertUnwindSafe(|| work(&log))) {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(WriteFault::Later(_))) => {}
                Ok(Err(WriteFault::Mark(_) | WriteFault::Engine(_))) | Err(_) => return Err(Died),
            }
        }
        panic!("it is never written");
    }

    fn write(&mut self, shard: u16, step: u64) -> Result<(), Died> {
        let acked = &mut self.acked[usize::from(shard)];
        let index = acked.next;
        let vote = step.is_multiple_of(5).then(|| step.to_le_bytes().to_vec());
        if vote.is_some() {
            acked.vote_tried.clone_from(&vote);
        }
        let entry = data(shard, index, step);
        let write = ShardWrite {
            shard,
            entries: vec![(index, entry.clone())],
            vote: vote.clone(),
            committed: None,
        };
        self.until_done(|log| {
            let mut round = log.round();
            round.push(write.clone()).unwrap();
            round.write()
        })?;
        let acked = &mut self.acked[usize::from(shard)];
        acked.entries.insert(index, entry);
        acked.next = index + 1;
        acked.vote = vote.or(acked.vote.take());
        Ok(())
    }

    fn discard(&mut self, shard: u16) -> Result<(), Died> {
        let acked = &mut self.acked[usize::from(shard)];
        let below = acked.next.saturating_sub(4);
        acked.start_tried = below.max(acked.start_tried);
        self.until_done(|log| log.discard(shard, below, b"last"))?;
        let acked = &mut self.acked[usize::from(shard)];
        acked.start = acked.start_tried;
        acked.entries = acked.entries.split_off(&acked.start);
        Ok(())
    }

    /// Cuts the last entry off; after a crash it may be back.
    fn truncate(&mut self, shard: u16) -> Result<(), Died> {
        let acked = &mut self.acked[usize::from(shard)];
        acked.next -= 1;
        let next = acked.next;
        acked.entries.remove(&next);
        self.until_done(|log| log.truncate(shard, next).map_err(WriteFault::from))
    }

    fn look(&mut self) {
        let files = files::list(self.log().dir()).unwrap();
        for queue in QUEUES {
            let of_queue = numbered(files.clone(), queue);
            let seen = self.seen.entry(queue.to_owned()).or_default();
            let last = of_queue.last().map_or(0, |(number, _)| *number);
            *seen = (*seen).max(usize::try_from(last).unwrap());
            self.deleted |= of_queue.first().is_some_and(|(number, _)| *number > 1);
        }
    }

    fn step(&mut self, step: u64) -> Result<(), Died> {
        // One shard has few entries, which are rewritten so that old files can go.
        let shard = if step.is_multiple_of(11) {
            2
        } else {
            u16::try_from(step % 2).unwrap()
        };
        self.write(shard, step)?;
        if step % 13 == 12 {
            self.truncate(shard)?;
        }
        if step % 10 == 9 {
            self.discard(0)?;
            self.discard(1)?;
        }
        if step % 40 == 39 {
            self.discard(2)?;
        }
        if step % 3 == 2 {
            let log = self.log();
            match apart(|| log.collect()) {
                Ok(_) | Err(CollectError::Engine(_)) => {}
                Err(CollectError::Broken) => return Err(Died),
            }
        }
        if step % 45 == 44 {
            self.scrub();
            // It syncs its files when it ends.
            let log = self.log.take();
            catch_unwind(AssertUnwindSafe(|| drop(log))).map_err(|_| Died)?;
            self.start()?;
            self.check("after a restart");
        }
        self.look();
        if self.trouble.is_dead() {
            return Err(Died);
        }
        Ok(())
    }

    fn scrub(&self) {
        let mut walks = vec![scrub::log_files(&self.log())];
        for shard in 0..SHARDS {
            let understand: scrub::Understand = Arc::new(|_, _| Ok(()));
            walks.push(scrub::entries(&self.log(), shard, understand));
        }
        let found: Result<u64, _> = apart(|| walks.into_iter().flatten().sum());
        found.unwrap_or_else(|damage| panic!("nothing is damaged: {damage}"));
    }

    /// Everything acknowledged is there.
    fn check(&mut self, when: &str) {
        let log = self.log();
        for (shard, acked) in (0..).zip(&mut self.acked) {
            let span = log.span(shard);
            if !acked.entries.is_empty() {
                assert!(
                    span.start == acked.start || span.start == acked.start_tried,
                    "{when}: shard {shard} starts at {}",
                    span.start
                );
            }
            assert!(
                span.end >= acked.next,
                "{when}: shard {shard} ends at {}",
                span.end
            );
            let found = apart(|| {
                let mut from = span.start;
                let mut found = BTreeMap::new();
                while from < span.end {
                    let some = log.read(shard, from, span.end, 1 << 20).unwrap();
                    from = some.last().unwrap().0 + 1;
                    found.extend(some);
                }
                found
            });
            for (index, entry) in acked.entries.range(span.start..) {
                assert_eq!(
                    found.get(index),
                    Some(entry),
                    "{when}: shard {shard}, entry {index}"
                );
            }
            let vote = log.vote(shard);
            assert!(
                vote == acked.vote || vote == acked.vote_tried,
                "{when}: shard {shard} has forgotten its vote"
            );
            // What is there now counts from here on.
            acked.start = span.start;
            acked.start_tried = span.start;
            acked.next = span.end;
            acked.entries = found;
            acked.vote = vote;
        }
    }

    /// Ends the process where it is: nothing more reaches the disk.
    fn kill(&mut self) {
        self.trouble.dead.store(true, Ordering::SeqCst);
        self.log = None;
    }

    /// Opens the log on a sound disk.
    fn recover(&mut self, when: &str) {
        self.trouble = Arc::default();
        self.log = Some(
            open(self.dir.path(), &self.trouble)
                .unwrap_or_else(|error| panic!("{when}: the log does not open: {error}")),
        );
        self.check(when);
        self.scrub();
    }

    fn play(&mut self, from: u64, to: u64) -> Result<(), Died> {
        if self.log.is_none() {
            self.start()?;
        }
        (from..to).try_for_each(|step| self.step(step))
    }
}

/// Plays a run with a fault; kills it after its last step or where it has to end; all that was acknowledged must be
/// there, before and after more work and another kill.
fn survives(fault: Fault) {
    let mut run = Run::new(Some(fault));
    let died = run.play(0, STEPS).is_err();
    if !died {
        run.check(&format!("while it runs, {fault:?}"));
        run.scrub();
    }
    run.kill();
    run.recover(&format!("after {fault:?}"));
    run.play(STEPS, STEPS + 30).unwrap();
    run.kill();
    run.recover(&format!("later, {fault:?}"));
}

/// How many calls a run without a fault makes.
fn calls() -> usize {
    let mut run = Run::new(None);
    run.play(0, STEPS).unwrap();
    run.scrub();
    assert!(run.seen["raftlog"] > 8, "{:?}", run.seen);
    assert!(run.seen["rewrite"] > 1, "{:?}", run.seen);
    assert!(run.deleted);
    run.trouble.calls.load(Ordering::SeqCst)
}

thread_local! {
    /// Whether this thread's panics are expected, and not said where they happen.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Says nothing of a panic on a thread that is quiet; all others are said as ever.
fn hush() {
    static HUSHED: Once = Once::new();
    HUSHED.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                hook(panic);
            }
        }));
    });
    QUIET.set(true);
}

/// Plays a fault at every call; at every `stride`th, unless `EVERY_CALL` is set.
fn at_calls(stride: usize, fault: impl Fn(usize) -> Fault) {
    let calls = calls();
    // A sync that fails panics inside the engine: that is said only where a test fails.
    hush();
    let all = std::env::var_os("EVERY_CALL").is_some();
    let stride = if all { 1 } else { stride };
    let failed = (0..calls).step_by(stride).find_map(|at| {
        let fault = fault(at);
        catch_unwind(|| survives(fault))
            .err()
            .map(|why| (fault, why))
    });
    QUIET.set(false);
    if let Some((fault, why)) = failed {
        let text = why.downcast_ref::<String>().cloned();
        panic!(
            "{fault:?} of {calls} calls: {}",
            text.unwrap_or_else(|| "it panicked".to_owned())
        );
    }
}

fn fault(at: usize) -> Fault {
    Fault {
        at,
        lasts: 1,
        errno: Errno::NOSPC,
        short: false,
        dies: false,
    }
}

#[test]
fn a_disk_that_is_full_for_one_call_loses_nothing() {
    at_calls(1, fault);
}

#[test]
fn a_disk_that_is_full_for_many_calls_loses_nothing() {
    at_calls(5, |at| Fault {
        lasts: 25,
        short: at.is_multiple_of(2),
        ..fault(at)
    });
}

#[test]
fn a_write_that_is_cut_short_loses_nothing() {
    at_calls(5, |at| Fault {
        lasts: 2,
        short: true,
        errno: if at.is_multiple_of(2) {
            Errno::DQUOT
        } else {
            Errno::MFILE
        },
        ..fault(at)
    });
}

#[test]
fn a_disk_that_fails_ends_the_process_and_loses_nothing() {
    at_calls(5, |at| Fault {
        errno: Errno::IO,
        short: at.is_multiple_of(2),
        ..fault(at)
    });
}

#[test]
fn a_process_that_is_killed_at_any_call_loses_nothing() {
    at_calls(1, |at| Fault {
        dies: true,
        lasts: usize::MAX,
        short: at.is_multiple_of(2),
        ..fault(at)
    });
}

#[test]
fn the_header_is_the_one_that_the_engine_writes() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        dir: dir.path().to_str().unwrap().to_owned(),
        ..Config::default()
    };
    drop(Engine::open(config).unwrap());
    let (_, path) = numbered(files::list(dir.path()).unwrap(), "raftlog").remove(0);
    assert_eq!(fs::read(path).unwrap(), HEADER);
}

/// Leaves the files of a killed process with several of them in the log.
fn killed() -> Run {
    let mut run = Run::new(None);
    run.play(0, 40).unwrap();
    run.kill();
    run
}

fn last_file(run: &Run) -> (u64, PathBuf) {
    let files = files::list(&run.dir.path().join("engine")).unwrap();
    numbered(files, "raftlog").pop().unwrap()
}

#[test]
fn what_a_failed_rotation_of_an_earlier_version_left_is_no_damage() {
    let empty: &[u8] = b"";
    let zeros = vec![0; 2 << 20];
    for queue in QUEUES {
        for (what, left) in [
            ("an empty file", vec![empty]),
            ("half a header", vec![&HEADER[..30]]),
            (
                "a header cut in its zeros",
                vec![&HEADER[..HEADER_BYTES - 1]],
            ),
            ("room that was allocated", vec![&zeros]),
            ("several", vec![empty, &HEADER[..5], empty]),
        ] {
            let mut run = killed();
            let dir = run.dir.path().join("engine");
            let (number, active) = numbered(files::list(&dir).unwrap(), queue).pop().unwrap();
            // The engine went on in the file before, which got more room ahead.
            let file = File::options().append(true).open(&active).unwrap();
            file.set_len(file.metadata().unwrap().len() + (1 << 20))
                .unwrap();
            for (place, bytes) in (1..).zip(left) {
                let name = format!("{:016}.{queue}", number + place);
                fs::write(dir.join(name), bytes).unwrap();
            }
            fs::write(
                dir.join(format!("{:016}.{queue}.draft", number + 1)),
                HEADER,
            )
            .unwrap();
            run.recover(what);
            run.play(40, 90).unwrap();
            run.kill();
            run.recover(what);
        }
    }
}

#[test]
fn a_file_with_anything_in_it_is_never_taken_for_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let mut late = vec![0; 3 * LOOK_BYTES];
    *late.last_mut().unwrap() = 1;
    let mut flipped = HEADER.to_vec();
    flipped[3] ^= 1;
    for (content, headless) in [
        (&[][..], true),
        (&HEADER[..40], true),
        (&[0; 5_000][..], true),
        (&HEADER[..], false),
        (&late, false),
        (&flipped, false),
        (b"something else", false),
    ] {
        fs::write(&path, content).unwrap();
        assert_eq!(
            is_headless(&path).unwrap(),
            headless,
            "{} bytes",
            content.len()
        );
    }
}

#[test]
fn a_damaged_block_before_an_empty_file_is_still_found() {
    let mut run = killed();
    let (number, active) = last_file(&run);
    let mut bytes = fs::read(&active).unwrap();
    // The active file had allocated room; its last block ends before the zeros.
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end] ^= 1;
    fs::write(&active, bytes).unwrap();
    let empty = active.with_file_name(format!("{:016}.raftlog", number + 1));
    fs::write(empty, b"").unwrap();
    run.trouble = Arc::default();
    let error = open(run.dir.path(), &run.trouble).err().unwrap();
    assert!(
        matches!(error, OpenError::Short { .. } | OpenError::Behind { .. }),
        "{error}"
    );
}

#[test]
fn zeros_at_the_end_of_a_file_before_one_with_blocks_are_damage() {
    let mut run = killed();
    let files = files::list(&run.dir.path().join("engine")).unwrap();
    let all = numbered(files, "raftlog");
    let (_, before) = &all[all.len() - 2];
    let file = File::options().append(true).open(before).unwrap();
    file.set_len(file.metadata().unwrap().len() + 4_096)
        .unwrap();
    run.trouble = Arc::default();
    let error = open(run.dir.path(), &run.trouble).err().unwrap();
    assert!(matches!(error, OpenError::Engine { .. }), "{error}");
}

#[test]
fn files_below_a_gap_are_no_part_of_the_log_and_are_deleted() {
    let mut run = Run::new(None);
    run.play(0, STEPS).unwrap();
    run.kill();
    let (number, active) = last_file(&run);
    let old = active.with_file_name(format!("{:016}.raftlog", 1));
    assert!(number > 3 && !old.exists());
    fs::write(&old, HEADER).unwrap();
    run.recover("with an old file");
    assert!(!old.exists());
}

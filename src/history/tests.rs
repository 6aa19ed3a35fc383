//! Every checker says each of its three words, and says *violated* of the lines that show it.

mod facts;
mod format;
mod nodes;
mod rooms;
mod senders;

use super::*;

/// Longer than anything takes in these histories.
const LATER: u64 = 100_000_000_000;

/// A history in the making.
#[derive(Default)]
struct Tale {
    text: Vec<u8>,
    next: u64,
    ns: u64,
}

fn client(name: &str) -> ClientUri {
    format!("mimi://a.example/d/{name}/1").parse().unwrap()
}

fn den() -> RoomUri {
    "mimi://a.example/r/den".parse().unwrap()
}

fn id(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

impl Tale {
    /// Appends a line and gives its number from 1.
    fn line(&mut self, event: Event) -> u64 {
        let line = Line {
            i: self.next,
            t_mono_ns: self.ns,
            event,
        };
        serde_json::to_writer(&mut self.text, &line).unwrap();
        self.text.push(b'\n');
        self.next += 1;
        self.ns += 1_000_000;
        self.next
    }

    fn begins(&mut self, proc: &str, node: Option<&str>, op: Op) -> u64 {
        self.line(Event::Invoke(Invoke {
            proc: client(proc).to_string(),
            node: node.map(str::to_owned),
            op,
        }))
    }

    fn ok(&mut self, proc: &str, ret: Ret) -> u64 {
        let proc = client(proc).to_string();
        self.line(Event::Ok { proc, ret })
    }

    fn fails(&mut self, proc: &str) -> u64 {
        self.line(Event::Fail {
            proc: client(proc).to_string(),
            why: "refused".into(),
        })
    }

    fn unknown(&mut self, proc: &str) -> u64 {
        self.line(Event::Info {
            proc: client(proc).to_string(),
            why: "no answer".into(),
        })
    }

    fn creates(&mut self, who: &str) {
        self.begins(who, None, Op::Create { room: den() });
        self.ok(who, Ret::Created);
    }

    fn commits(
        &mut self,
        who: &str,
        epoch: u64,
        name: &str,
        added: &[&str],
        removed: &[&str],
    ) -> u64 {
        self.commits_naming(who, epoch, name, (added, removed), &[])
    }

    fn commits_naming(
        &mut self,
        who: &str,
        epoch: u64,
        name: &str,
        (added, removed): (&[&str], &[&str]),
        covers: &[&str],
    ) -> u64 {
        let clients = |names: &[&str]| names.iter().map(|name| client(name)).collect();
        self.begins(
            who,
            None,
            Op::Commit {
                room: den(),
                epoch: Epoch(epoch),
                id: id(name),
                added: clients(added),
                removed: clients(removed),
                covers: covers.iter().map(|name| id(name)).collect(),
            },
        )
    }

    fn committed(&mut self, who: &str, epoch: u64, seq: u64) -> u64 {
        let (epoch, seq) = (Epoch(epoch), RoomSeq(seq));
        self.ok(who, Ret::Committed { epoch, seq })
    }

    fn sends(&mut self, who: &str, names: &[&str]) -> u64 {
        let ids = names.iter().map(|name| id(name)).collect();
        self.begins(who, None, Op::Send { room: den(), ids })
    }

    fn sent(&mut self, who: &str, names: &[&str]) -> u64 {
        self.sends(who, names);
        self.ok(who, Ret::Sent)
    }

    fn proposes(&mut self, who: &str, name: &str) {
        self.begins(
            who,
            None,
            Op::Propose {
                room: den(),
                id: id(name),
                references: vec![id(&format!("reference of {name}"))],
            },
        );
        self.ok(who, Ret::Proposed);
    }

    fn told(&mut self, who: &str, name: &str, seq: Option<u64>) -> u64 {
        self.line(Event::Verdict(Told {
            client: client(who),
            room: den(),
            id: id(name),
            seq: seq.map(RoomSeq),
        }))
    }

    fn gets(&mut self, who: &str, seq: u64, name: &str) -> u64 {
        self.delivered(who, seq, name, None, false)
    }

    fn enters(&mut self, who: &str, seq: u64, name: &str, epoch: u64) -> u64 {
        self.delivered(who, seq, name, Some(epoch), false)
    }

    fn delivered(
        &mut self,
        who: &str,
        seq: u64,
        name: &str,
        epoch: Option<u64>,
        again: bool,
    ) -> u64 {
        self.line(Event::Deliver(Delivered {
            client: client(who),
            room: den(),
            seq: RoomSeq(seq),
            id: id(name),
            epoch: epoch.map(Epoch),
            again,
        }))
    }

    fn fault(&mut self, what: Fault, node: &str, phase: Phase) -> u64 {
        self.line(Event::Nemesis(Nemesis {
            what,
            target: vec![node.to_owned()],
            phase,
        }))
    }

    fn kills(&mut self) {
        self.fault(Fault::Kill, "a1", Phase::Start);
        self.fault(Fault::Kill, "a1", Phase::Stop);
    }

    fn applies(&mut self, node: &str, term: u64, index: u64, hash: &str, leads: bool) -> u64 {
        self.line(Event::Apply(Applied {
            provider: "a.example".into(),
            shard: 3,
            node: node.into(),
            term: Some(term),
            index,
            hash: id(hash),
            leads,
        }))
    }

    /// Alice and bob share a room since event 1, which opened epoch 1.
    fn pair() -> Self {
        let mut tale = Self::default();
        tale.creates("alice");
        tale.commits("alice", 1, "adds bob", &["bob"], &[]);
        tale.committed("alice", 1, 1);
        tale.enters("alice", 1, "adds bob", 1);
        tale
    }

    fn report(&self) -> Report {
        verify(&*self.text, Terms::default()).unwrap()
    }

    fn row(&self, invariant: Invariant) -> Row {
        self.report().row(invariant).unwrap().clone()
    }

    #[track_caller]
    fn is_valid(&self, invariant: Invariant) {
        let row = self.row(invariant);
        assert_eq!(row.verdict, Verdict::Valid, "{row:?}");
    }

    /// The first finding names these lines.
    #[track_caller]
    fn is_violated(&self, invariant: Invariant, lines: &[u64]) {
        let row = self.row(invariant);
        assert_eq!(row.verdict, Verdict::Violated, "{row:?}");
        assert_eq!(row.findings[0].lines, lines, "{row:?}");
    }

    /// The verdict is open, and this is said to be missing.
    #[track_caller]
    fn is_unknown(&self, invariant: Invariant, missing: &str) {
        let row = self.row(invariant);
        assert_eq!(row.verdict, Verdict::Unknown, "{row:?}");
        assert!(
            row.missing.iter().any(|what| what.contains(missing)),
            "{row:?}"
        );
    }
}

#[test]
fn a_history_of_nothing_proves_nothing() {
    let report = Tale::default().report();
    assert_eq!(report.rows.len(), Invariant::ALL.len());
    for row in &report.rows {
        assert_eq!(row.verdict, Verdict::Unknown, "{row:?}");
        assert!(!row.missing.is_empty(), "{row:?}");
    }
    assert_eq!(report.verdict(Invariant::ALL), Verdict::Unknown);
}

#[test]
fn the_worst_verdict_counts_and_only_of_what_is_asked() {
    let mut tale = Tale::default();
    tale.applies("a1", 1, 7, "x", false);
    tale.applies("a2", 1, 7, "y", false);
    let report = tale.report();
    assert_eq!(report.verdict(Invariant::ALL), Verdict::Violated);
    assert_eq!(report.verdict(&[Invariant::I11]), Verdict::Violated);
    assert_eq!(report.verdict(&[Invariant::I1]), Verdict::Unknown);
    assert_eq!(report.verdict(&[]), Verdict::Unknown);
}

use super::*;
use crate::cluster::log::types::Entry;
use futures::future::BoxFuture;
use openraft::{CommittedLeaderId, EntryPayload};
use std::sync::Mutex;

/// openraft's patience.
const PATIENCE: Duration = Duration::from_millis(40);

/// A way on which calls lie until the test answers them.
#[derive(Clone, Default)]
struct Slow(Arc<Mutex<Vec<Lies>>>);

/// A call: how many entries it carries and after what, and where its answer goes.
type Lies = (usize, Option<LogId>, oneshot::Sender<RaftAnswer>);

impl Way for Slow {
    fn is_up(&self) -> bool {
        true
    }

    fn begin(&self, call: RaftCall, _: usize) -> Result<oneshot::Receiver<RaftAnswer>, Lost> {
        let Rpc::Append(append) = call.rpc else {
            unreachable!("nothing else is sent");
        };
        let (answer, answered) = oneshot::channel();
        let lies = (append.entries.len(), append.prev_log_id, answer);
        self.0.lock().unwrap().push(lies);
        Ok(answered)
    }

    fn send_snapshot(
        &self,
        _: u16,
        _: Vote<u64>,
        _: Snapshot<Types>,
    ) -> BoxFuture<'_, anyhow::Result<SnapshotResponse<u64>>> {
        unreachable!("no snapshot is sent")
    }
}

impl Slow {
    /// The call that has lain longest.
    fn next(&self) -> Lies {
        self.0.lock().unwrap().remove(0)
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

fn log_id(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(1, 1), index)
}

/// Entries after the first, up to this one.
fn entries(upto: u64) -> AppendEntriesRequest<Types> {
    let entry = |index| Entry {
        log_id: log_id(index),
        payload: EntryPayload::Blank,
    };
    AppendEntriesRequest {
        vote: Vote::new_committed(1, 1),
        prev_log_id: Some(log_id(1)),
        entries: (2..=upto).map(entry).collect(),
        leader_commit: Some(log_id(1)),
    }
}

fn voter() -> (Voter, Slow) {
    let way = Slow::default();
    let voter = Voter {
        shard: 3,
        node: 7,
        way: Some(Arc::new(way.clone())),
        earlier: None,
    };
    (voter, way)
}

type Answered = Result<AppendEntriesResponse<u64>, RPCError<u64, BasicNode, RaftError<u64>>>;

async fn send(voter: &mut Voter, upto: u64) -> Answered {
    let option = RPCOption::new(PATIENCE);
    voter
        .append_entries_once(entries(upto), log_id(upto), &option)
        .await
}

/// Sends, and answers the call that is begun for it.
async fn send_answered(voter: &mut Voter, way: &Slow, upto: u64, with: Reply) -> Answered {
    let answering = async {
        while way.count() == 0 {
            tokio::task::yield_now().await;
        }
        let (count, after, answer) = way.next();
        assert_eq!(count, 0, "nothing is carried again");
        drop(answer.send(RaftAnswer::Append(with)));
        after
    };
    let (sent, _) = tokio::join!(send(voter, upto), answering);
    sent
}

type Reply = AppendEntriesResponse<u64>;

fn is_late(answered: &Answered) -> bool {
    answered
        .as_ref()
        .is_err_and(|error| error.to_string().contains("did not answer in time"))
}

#[tokio::test]
async fn a_node_alone_reaches_nobody_and_the_error_says_why() {
    let mut network = Network::new(0, None);
    let mut voter = network.new_client(7, &BasicNode::default()).await;
    let request = VoteRequest::new(Vote::new(1, 1), None);
    let error = voter
        .vote(request, RPCOption::new(Duration::from_secs(1)))
        .await
        .unwrap_err();
    assert!(matches!(error, RPCError::Unreachable(_)));
    let text = error.to_string();
    assert!(text.contains("node 7 cannot be reached"), "{text}");
}

#[tokio::test]
async fn a_voter_that_is_slow_gets_entries_once_however_often_they_are_sent_and_is_asked_again_when_it_has_them()
 {
    let (mut voter, way) = voter();
    for _ in 0..5 {
        assert!(is_late(&send(&mut voter, 65).await));
        assert_eq!(way.count(), 1, "one call is under way");
    }
    let (count, after, answer) = way.next();
    assert_eq!((count, after), (64, Some(log_id(1))));
    drop(answer.send(RaftAnswer::Append(Reply::Success)));
    let sent = send_answered(&mut voter, &way, 65, Reply::Success).await;
    assert_eq!(sent.unwrap(), Reply::Success);
    assert!(voter.earlier.is_none());
}

#[tokio::test]
async fn what_came_for_fewer_entries_counts_for_those() {
    let (mut voter, way) = voter();
    assert!(is_late(&send(&mut voter, 3).await));
    drop(way.next().2.send(RaftAnswer::Append(Reply::Success)));
    let sent = send_answered(&mut voter, &way, 9, Reply::Success).await;
    assert_eq!(sent.unwrap(), Reply::PartialSuccess(Some(log_id(3))));
}

#[tokio::test]
async fn a_voter_that_follows_another_leader_since_is_not_taken_for_one_that_answers_now() {
    let (mut voter, way) = voter();
    assert!(is_late(&send(&mut voter, 3).await));
    drop(way.next().2.send(RaftAnswer::Append(Reply::Success)));
    let higher = || Reply::HigherVote(Vote::new_committed(2, 2));
    let sent = send_answered(&mut voter, &way, 3, higher()).await;
    assert_eq!(sent.unwrap(), higher());
}

#[tokio::test]
async fn what_comes_late_is_remembered_until_the_voter_answers_and_other_entries_are_sent() {
    let (mut voter, way) = voter();
    assert!(is_late(&send(&mut voter, 3).await));
    drop(way.next().2.send(RaftAnswer::Append(Reply::Success)));
    // It is asked whether it follows, and does not say in time.
    assert!(is_late(&send(&mut voter, 3).await));
    assert_eq!(way.next().0, 0);
    let sent = send_answered(&mut voter, &way, 3, Reply::Success).await;
    assert_eq!(sent.unwrap(), Reply::Success);
    assert!(is_late(&send(&mut voter, 4).await));
    assert_eq!(way.next().0, 3, "these were not sent before");
}

#[tokio::test]
async fn a_way_that_is_lost_forgets_what_was_on_it() {
    let (mut voter, way) = voter();
    assert!(is_late(&send(&mut voter, 3).await));
    drop(way.next());
    let lost = send(&mut voter, 3).await.unwrap_err();
    assert!(matches!(lost, RPCError::Unreachable(_)), "{lost}");
    assert!(is_late(&send(&mut voter, 3).await));
    assert_eq!(way.next().0, 2, "they are sent again");
}

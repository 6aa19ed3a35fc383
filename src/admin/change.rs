//! What the operator changes: asked of the actors wherever they are led, and answered with what the log made of it.
//!
//! A request that finds no leader, or whose leader changes, is asked again for a while: the same command is done once,
//! however often it is asked. What is told at the end is which of these happened last, and whether anything may have
//! been done.

use crate::{cluster::shard::shards::Unanswered, node::Node};
use mimi_actors::{
    caller::Principal,
    ids::{ClientUri, ProviderId, RoomUri, UserUri},
    limits::{ENROLMENT_CODE_BYTES, ENROLMENT_CODE_LIFE_MS},
    link::Redriven,
    shard_request::{AskRedrive, AskUser},
    wire::{
        event::Hash,
        refusal::Why,
        user::{Answer, Consent, Refused, Request},
    },
};
use mimi_operator::protocol::{Code, Response};
use rand::RngCore;
use std::time::Duration;
use tokio::time::Instant;

/// How long a request is asked again: longer than an election takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long it waits before it is asked again, where the answer does not say.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// What an operator is told that something was not done, or may not have been.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(super) struct Refusal {
    pub(super) code: Code,
    pub(super) why: String,
    pub(super) retry_after_ms: Option<u32>,
}

impl Refusal {
    pub(super) fn new(code: Code, why: String) -> Self {
        Self {
            code,
            why,
            retry_after_ms: None,
        }
    }

    pub(super) fn full() -> Self {
        let why = "the disk or the log is full, so nothing was done: make room (`mimi-node status` shows how full the \
                   log is), then repeat the command";
        Self::new(Code::StorageFull, why.to_owned())
    }
}

/// What one attempt came to.
pub(super) enum Attempt<A> {
    Answered(A),
    /// The shard takes nothing now; when it may.
    TryLater {
        retry_after_ms: u32,
        code: Code,
    },
    Unanswered(Unanswered),
}

/// An answer, and whether an attempt before it may have been done already.
pub(super) struct Asked<A> {
    pub(super) answer: A,
    pub(super) again: bool,
}

/// Asks until there is an answer, or the patience is over.
pub(super) async fn patiently<A, F: Future<Output = Attempt<A>>>(
    mut attempt: impl FnMut() -> F,
    patience: Duration,
) -> Result<Asked<A>, Refusal> {
    let began = Instant::now();
    let mut open = false;
    loop {
        let (wait, refusal) = match attempt().await {
            Attempt::Answered(answer) => {
                return Ok(Asked {
                    answer,
                    again: open,
                });
            }
            Attempt::TryLater {
                retry_after_ms,
                code,
            } => {
                let wait = Duration::from_millis(retry_after_ms.into());
                let mut refusal = later(code, began.elapsed(), open);
                refusal.retry_after_ms = Some(retry_after_ms);
                (wait, refusal)
            }
            Attempt::Unanswered(unanswered) => {
                open |= unanswered.is_open();
                (AGAIN_AFTER, lost(unanswered, began.elapsed(), open))
            }
        };
        if began.elapsed() + wait >= patience {
            return Err(refusal);
        }
        tokio::time::sleep(wait).await;
    }
}

/// What became of a request as far as is known, and what to do.
fn known(open: bool) -> &'static str {
    if open {
        "it may have been done: look, or repeat the command, which is done once"
    } else {
        "nothing was done: see `mimi-node status` (of several nodes, `mimi-node cluster status`), then repeat the command"
    }
}

fn later(code: Code, asked: Duration, open: bool) -> Refusal {
    let seconds = asked.as_secs_f32();
    let what = if code == Code::Overloaded {
        "too much waits for the shard already"
    } else {
        "the shard cannot write now: its leader is changing, or has no majority"
    };
    let why = format!("{what} (asked for {seconds:.1} s); {}", known(open));
    Refusal::new(code, why)
}

fn lost(unanswered: Unanswered, asked: Duration, open: bool) -> Refusal {
    let seconds = asked.as_secs_f32();
    let code = match unanswered {
        Unanswered::NoLeader { .. } => Code::NoLeader,
        Unanswered::Lost => Code::LeaderLost,
        Unanswered::Late { .. } => Code::Late,
        Unanswered::Unreachable => Code::Failed,
    };
    let code = if open && code == Code::NoLeader {
        Code::LeaderLost
    } else {
        code
    };
    let why = format!("{unanswered} (asked for {seconds:.1} s); {}", known(open));
    Refusal::new(code, why)
}

/// Has the operator's request to a user done; says what the log made of it.
async fn ask_user(node: &Node, user: &UserUri, request: Request) -> Result<Asked<Answer>, Refusal> {
    let attempt = || {
        let (shards, user, request) = (node.shards.clone(), user.clone(), request.clone());
        async move {
            match shards
                .ask(AskUser(user, Principal::Operator, request))
                .await
            {
                Ok(Answer::Refused(Refused::TryLater(later))) => Attempt::TryLater {
                    retry_after_ms: later.after_ms,
                    code: match later.why {
                        Why::Unavailable => Code::NoLeader,
                        Why::Overloaded => Code::Overloaded,
                    },
                },
                Ok(answer) => Attempt::Answered(answer),
                Err(unanswered) => Attempt::Unanswered(unanswered),
            }
        }
    };
    patiently(attempt, PATIENCE).await
}

/// What an answer of a user means to an operator.
fn judged(user: &UserUri, asked: Asked<Answer>) -> Result<Response, Refusal> {
    match asked.answer {
        Answer::Refused(Refused::Unknown) => Err(Refusal::new(
            Code::Unknown,
            format!("{user} does not exist; see `mimi-node user list`"),
        )),
        Answer::Refused(Refused::Deleted) => Err(Refusal::new(
            Code::Unknown,
            format!(
                "{user} was deleted, for good; another name can be given to `mimi-node user add`"
            ),
        )),
        Answer::Refused(Refused::StorageFull) => Err(Refusal::full()),
        Answer::Refused(refused) => Err(Refusal::new(Code::Refused, format!("{user}: {refused}"))),
        Answer::Unchanged if !asked.again => Ok(Response::Unchanged),
        Answer::Unchanged
        | Answer::Done
        | Answer::Enrolled
        | Answer::Introduced(_)
        | Answer::Consents(_) => Ok(Response::Done),
    }
}

pub(super) async fn add_user(node: &Node, user: UserUri) -> Result<Response, Refusal> {
    let mut bytes = [0; ENROLMENT_CODE_BYTES];
    rand::rng().fill_bytes(&mut bytes);
    let enrolment_code: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let code = Hash::of(enrolment_code.as_bytes());
    let asked = ask_user(node, &user, Request::Add { code }).await?;
    judged(&user, asked)?;
    Ok(Response::UserAdded {
        user,
        enrolment_code,
        valid_s: ENROLMENT_CODE_LIFE_MS / 1_000,
    })
}

pub(super) async fn delete_user(node: &Node, user: &UserUri) -> Result<Response, Refusal> {
    let asked = ask_user(node, user, Request::Delete).await?;
    if asked.answer != Answer::Refused(Refused::Deleted) {
        return judged(user, asked);
    }
    // Of an attempt whose answer was lost, this is the answer.
    Ok(if asked.again {
        Response::Done
    } else {
        Response::Unchanged
    })
}

pub(super) async fn consent(
    node: &Node,
    user: &UserUri,
    consent: Consent,
) -> Result<Response, Refusal> {
    let asked = ask_user(node, user, Request::Consent(consent)).await?;
    judged(user, asked)
}

pub(super) async fn revoke(node: &Node, client: ClientUri) -> Result<Response, Refusal> {
    if client.provider() != &node.shards.environment().provider {
        let why = format!("{client} is not a device of this provider");
        return Err(Refusal::new(Code::Unknown, why));
    }
    let user = client.user().clone();
    let asked = ask_user(node, &user, Request::Revoke(client.clone())).await?;
    if asked.answer != Answer::Refused(Refused::NotKnown) {
        return judged(&user, asked);
    }
    if asked.again {
        return Ok(Response::Done);
    }
    let why = format!("{client} does not exist, or was revoked before; see `mimi-node user list`");
    Err(Refusal::new(Code::Unknown, why))
}

/// Sends what waits of a room again; says how much that is, as the log has it.
pub(super) async fn redrive(
    node: &Node,
    provider: &ProviderId,
    room: &RoomUri,
) -> Result<Response, Refusal> {
    if !node.peers.iter().any(|(peer, _)| peer == provider) {
        let why = format!("{provider} is not a peer of this node; see `mimi-node status`");
        return Err(Refusal::new(Code::Unknown, why));
    }
    let attempt = || {
        let (shards, room, provider) = (node.shards.clone(), room.clone(), provider.clone());
        async move {
            match shards.ask(AskRedrive(room, provider)).await {
                Ok(Redriven::TryLater(later)) => Attempt::TryLater {
                    retry_after_ms: later.after_ms,
                    code: Code::NoLeader,
                },
                Ok(redriven) => Attempt::Answered(redriven),
                Err(unanswered) => Attempt::Unanswered(unanswered),
            }
        }
    };
    let asked = patiently(attempt, PATIENCE).await?;
    match asked.answer {
        Redriven::Items(items) => Ok(Response::Redriven { items }),
        Redriven::StorageFull => Err(Refusal::full()),
        Redriven::Nothing | Redriven::TryLater(_) => {
            let before = if asked.again {
                " now; an attempt whose answer was lost may have sent it"
            } else {
                ""
            };
            let why = format!(
                "nothing of {room} waits for {provider}{before}; `mimi-node peer parked --peer {provider}` lists what does"
            );
            Err(Refusal::new(Code::NothingWaits, why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One attempt.
    const ONCE: Duration = AGAIN_AFTER;
    const OFTEN: Duration = PATIENCE;

    #[tokio::test]
    async fn what_finds_no_leader_is_asked_again_until_there_is_one() {
        let mut attempts = 0;
        let answered = patiently(
            || {
                attempts += 1;
                std::future::ready(match attempts {
                    1 => Attempt::Unanswered(Unanswered::NoLeader { shard: 3 }),
                    2 => Attempt::Unanswered(Unanswered::Lost),
                    _ => Attempt::Answered(7),
                })
            },
            OFTEN,
        )
        .await
        .unwrap();
        assert_eq!((answered.answer, answered.again), (7, true));
    }

    #[tokio::test]
    async fn an_end_of_patience_says_what_is_known() {
        let refused = |unanswered| async move {
            let never = || std::future::ready(Attempt::<()>::Unanswered(unanswered));
            patiently(never, ONCE).await.err().unwrap()
        };
        let nobody = refused(Unanswered::NoLeader { shard: 3 }).await;
        assert_eq!(nobody.code, Code::NoLeader);
        assert!(nobody.why.contains("shard 3 has no leader"), "{nobody}");
        assert!(nobody.why.contains("nothing was done"), "{nobody}");
        let late = refused(Unanswered::Late { waited_ms: 500 }).await;
        assert_eq!(late.code, Code::Late);
        assert!(late.why.contains("within 500 ms"), "{late}");
        assert!(late.why.contains("may have been done"), "{late}");
        assert_eq!(refused(Unanswered::Lost).await.code, Code::LeaderLost);
    }

    #[test]
    fn a_full_log_is_told_as_such_with_what_to_do() {
        let user = "mimi://a.example/u/alice".parse().unwrap();
        let full = Asked {
            answer: Answer::Refused(Refused::StorageFull),
            again: false,
        };
        let refused = judged(&user, full).unwrap_err();
        assert_eq!(refused.code, Code::StorageFull);
        assert!(
            refused.why.contains("so nothing was done: make room"),
            "{refused}"
        );
        let lost_before = Asked {
            answer: Answer::Unchanged,
            again: true,
        };
        assert_eq!(judged(&user, lost_before), Ok(Response::Done));
    }

    #[tokio::test]
    async fn what_may_have_been_done_stays_so_when_there_is_no_leader_afterwards() {
        let mut attempts = 0;
        let refused = patiently(
            || {
                attempts += 1;
                std::future::ready(Attempt::<()>::Unanswered(match attempts {
                    1 => Unanswered::Lost,
                    _ => Unanswered::NoLeader { shard: 3 },
                }))
            },
            2 * AGAIN_AFTER,
        )
        .await
        .err()
        .unwrap();
        assert_eq!(refused.code, Code::LeaderLost);
        assert!(refused.why.contains("may have been done"), "{refused}");
    }
}

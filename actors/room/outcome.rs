//! What comes of a command to a room: an answer, and what follows from it for others.

pub use crate::wire::{
    answer::{Accepted, Answer, Refused},
    post::{Change, UserNotice},
};
use crate::{
    ids::{ClientUri, ProviderId},
    machine::{Millis, Position},
    wire::{
        event::{ClientSeq, Epoch, Lane, Recipient, RoomSeq, SubmitRefused, SubmitSeq, VerdictRun},
        joining::CodeId,
        refusal::TryLater,
    },
};
use serde::{Deserialize, Serialize};

/// What a command came to, for the desk that waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// Whoever asked is told this.
    Answer(Answer),
    /// What the command was checked on has changed; it is checked again.
    Stale,
    /// The joiner has the lease.
    Granted {
        /// When it ends.
        until: Millis,
    },
    /// The joining code is kept under this name.
    CodeKept(CodeId),
}

impl Done {
    /// What whoever asked is told where the desk has nothing more to do for it. What only a desk can go on with is told
    /// to nobody: who asked for it has been answered, or asks again.
    #[must_use]
    pub fn to_answer(&self) -> Answer {
        match self {
            Self::Answer(answer) => answer.clone(),
            Self::Stale | Self::Granted { .. } | Self::CodeKept(_) => {
                Answer::Refused(Refused::TryLater(TryLater::AGAIN))
            }
        }
    }
}

impl From<Answer> for Done {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

impl PartialEq<Answer> for Done {
    fn eq(&self, other: &Answer) -> bool {
        matches!(self, Self::Answer(answer) if answer == other)
    }
}

/// What one command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// For whoever asked.
    pub done: Done,
    /// Runs of events that are now in the room.
    pub emitted: Vec<Emission>,
    /// The verdict on submissions that are not, for their providers.
    pub refused: Vec<RefusedRun>,
    /// Submissions that now wait for the hub (follower only).
    pub queued: Option<QueuedRun>,
    /// Submissions that wait no longer (follower only).
    pub decided: Vec<Decided>,
    /// The oldest submission that still waits, or the next one, when that has changed (follower only).
    pub undecided: Option<SubmitSeq>,
    /// Users of this provider whose clients joined or left.
    pub notices: Vec<UserNotice>,
}

impl Outcome {
    /// An outcome that is only an answer.
    #[must_use]
    pub fn answer(answer: impl Into<Done>) -> Self {
        Self {
            done: answer.into(),
            emitted: Vec::new(),
            refused: Vec::new(),
            queued: None,
            decided: Vec::new(),
            undecided: None,
            notices: Vec::new(),
        }
    }

    /// An outcome that is only a refusal.
    #[must_use]
    pub fn refused(refused: Refused) -> Self {
        Self::answer(Answer::Refused(refused))
    }
}

/// A run of consecutive events, and where their bytes lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emission {
    /// Number of the first in the room.
    pub first: RoomSeq,
    /// How many.
    pub count: u32,
    /// The command that holds their bytes.
    pub at: Position,
    /// Which item of that command the first is.
    pub item: u32,
    /// When the hub accepted them.
    pub time: Millis,
    /// Who sent them, where this provider knows: the client and its number of the first.
    pub origin: Option<(ClientUri, ClientSeq)>,
    /// What kind of events they are.
    pub lane: Lane,
    /// The other providers they go to.
    pub recipients: Vec<Recipient>,
}

/// A run of consecutive submissions that were refused alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRun {
    /// The provider that submitted.
    pub provider: ProviderId,
    /// Number of the first.
    pub first: SubmitSeq,
    /// How many.
    pub count: u32,
    /// Why.
    pub reason: SubmitRefused,
}

/// A run of messages of one client, on the way to the hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedRun {
    /// Number of the first, as the hub counts.
    pub first: SubmitSeq,
    /// How many.
    pub count: u32,
    /// Who sent them.
    pub sender: ClientUri,
    /// Number of the first, as the client counts.
    pub client_first: ClientSeq,
    /// The oldest epoch that one of them is of.
    pub oldest: Epoch,
    /// The command that holds their bytes.
    pub at: Position,
    /// Which item of that command the first is.
    pub item: u32,
}

/// The verdict on a run of a local client's submissions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Number of the first, as the hub counts.
    pub first: SubmitSeq,
    /// Who sent them.
    pub sender: ClientUri,
    /// The verdict, in the client's numbers.
    pub run: VerdictRun,
}

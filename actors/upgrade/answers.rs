//! Answers of rooms as version 1 had them: with three that no desk ever sent.

use super::{
    Before,
    refusals::{self, ClaimResponse, DoorRefused, Introduced, LinkRefused, Refused, UserAnswer},
    unsaid::verdict_in_1,
};
use crate::ids::RoomUri;
use crate::{
    limits::{KEY_PACKAGES_PER_UPLOAD_MAX, PROPOSALS_PER_BUNDLE_MAX, SUBMIT_ITEMS_MAX},
    machine::Millis,
    shard_request::ShardReply,
    wire::{
        BVec, Payload,
        answer::{self, Accepted, Answer as Today},
        door::{self, HubSender, PackageRefused},
        event::{ClientSeq, VerdictRun},
        joining::{CodeId, CodeList, MadeCode, SealedGroupInfo},
        link,
        refusal::TryLater,
        user,
        version::NotInVersion,
    },
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub(super) enum Answer {
    Created,
    Committed(Accepted),
    Proposed(BVec<Payload, PROPOSALS_PER_BUNDLE_MAX>),
    Sent(BVec<VerdictRun, SUBMIT_ITEMS_MAX>),
    Received,
    Gap { expected: u64 },
    GroupInfo(Box<SealedGroupInfo>),
    CodeMade(MadeCode),
    Codes(CodeList),
    CodeRevoked,
    Stale,
    Granted { until: Millis },
    CodeKept(CodeId),
    Refused(Refused),
}

impl Before<Today> for Answer {
    fn today(self) -> Today {
        match self {
            Self::Created => Today::Created,
            Self::Committed(accepted) => Today::Committed(accepted),
            Self::Proposed(references) => Today::Proposed(references),
            Self::Sent(runs) => Today::Sent(runs),
            Self::Received => Today::Received,
            Self::Gap { expected } => Today::Gap { expected },
            Self::GroupInfo(sealed) => Today::GroupInfo(sealed),
            Self::CodeMade(made) => Today::CodeMade(made),
            Self::Codes(codes) => Today::Codes(codes),
            Self::CodeRevoked => Today::CodeRevoked,
            Self::Refused(refused) => Today::Refused(refused.today()),
            // Who answers with what never leaves a desk has answered nothing.
            Self::Stale | Self::Granted { .. } | Self::CodeKept(_) => {
                Today::Refused(answer::Refused::TryLater(TryLater::UNANSWERED))
            }
        }
    }

    fn of(today: &Today) -> Result<Self, NotInVersion> {
        Ok(match today.clone() {
            Today::Created => Self::Created,
            Today::Committed(accepted) => Self::Committed(accepted),
            Today::Proposed(references) => Self::Proposed(references),
            Today::Sent(runs) => Self::Sent(runs.map(verdict_in_1)),
            Today::Received => Self::Received,
            Today::Gap { expected } => Self::Gap { expected },
            Today::GroupInfo(sealed) => Self::GroupInfo(sealed),
            Today::CodeMade(made) => Self::CodeMade(made),
            Today::Codes(codes) => Self::Codes(codes),
            Today::CodeRevoked => Self::CodeRevoked,
            Today::Refused(refused) => Self::Refused(Refused::of(&refused)?),
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) enum DoorReply {
    LoggedIn,
    HubSender(HubSender),
    Uploaded(BVec<Result<(), PackageRefused>, KEY_PACKAGES_PER_UPLOAD_MAX>),
    Claimed(ClaimResponse),
    Room(Answer),
    Introduced(Introduced),
    Refused(DoorRefused),
}

impl Before<door::Reply> for DoorReply {
    fn today(self) -> door::Reply {
        match self {
            Self::LoggedIn => door::Reply::LoggedIn,
            Self::HubSender(hub) => door::Reply::HubSender(hub),
            Self::Uploaded(results) => door::Reply::Uploaded(results),
            Self::Claimed(response) => door::Reply::Claimed(response.today()),
            Self::Room(answer) => door::Reply::Room(answer.today()),
            Self::Introduced(introduced) => {
                door::Reply::User(user::Answer::Introduced(introduced.today()))
            }
            Self::Refused(refused) => door::Reply::Refused(refused.today()),
        }
    }

    fn of(today: &door::Reply) -> Result<Self, NotInVersion> {
        Ok(match today.clone() {
            door::Reply::LoggedIn => Self::LoggedIn,
            door::Reply::HubSender(hub) => Self::HubSender(hub),
            door::Reply::Uploaded(results) => Self::Uploaded(results),
            door::Reply::Claimed(response) => Self::Claimed(ClaimResponse::of(&response)?),
            door::Reply::Room(answer) => Self::Room(Answer::of(&answer)?),
            door::Reply::User(user::Answer::Introduced(introduced)) => {
                Self::Introduced(Introduced::of(&introduced)?)
            }
            door::Reply::User(user::Answer::Refused(refused)) => {
                Self::Refused(DoorRefused::of(&refused.into())?)
            }
            door::Reply::User(_) => {
                return Err(NotInVersion {
                    version: 1,
                    what: "answer of a user",
                });
            }
            door::Reply::Refused(refused) => Self::Refused(DoorRefused::of(&refused)?),
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct DoorSent {
    room: RoomUri,
    first: ClientSeq,
    answer: Result<Answer, DoorRefused>,
}

impl Before<door::Sent> for DoorSent {
    fn today(self) -> door::Sent {
        door::Sent {
            room: self.room,
            first: self.first,
            answer: self.answer.map(Answer::today).map_err(DoorRefused::today),
        }
    }

    fn of(today: &door::Sent) -> Result<Self, NotInVersion> {
        let answer = match &today.answer {
            Ok(answer) => Ok(Answer::of(answer)?),
            Err(refused) => Err(DoorRefused::of(refused)?),
        };
        Ok(Self {
            room: today.room.clone(),
            first: today.first,
            answer,
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) enum LinkReply {
    Claimed(ClaimResponse),
    Vouched(bool),
    Room(Answer),
    Introduced(Introduced),
    Refused(LinkRefused),
}

impl Before<link::Reply> for LinkReply {
    fn today(self) -> link::Reply {
        match self {
            Self::Claimed(response) => link::Reply::Claimed(response.today()),
            Self::Vouched(vouched) => link::Reply::Vouched(vouched),
            Self::Room(answer) => link::Reply::Room(answer.today()),
            Self::Introduced(introduced) => link::Reply::Introduced(introduced.today()),
            Self::Refused(refused) => link::Reply::Refused(refused.today()),
        }
    }

    fn of(today: &link::Reply) -> Result<Self, NotInVersion> {
        Ok(match today.clone() {
            link::Reply::Claimed(response) => Self::Claimed(ClaimResponse::of(&response)?),
            link::Reply::Vouched(vouched) => Self::Vouched(vouched),
            link::Reply::Room(answer) => Self::Room(Answer::of(&answer)?),
            link::Reply::Introduced(introduced) => Self::Introduced(Introduced::of(&introduced)?),
            link::Reply::Refused(refused) => Self::Refused(LinkRefused::of(&refused)?),
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) enum NodeAnswered {
    Room(Answer),
    User(UserAnswer),
    DeviceKey(Option<[u8; 32]>),
    Knows(bool),
    Done,
    Nobody,
    Redriven(refusals::Redriven),
}

impl Before<ShardReply> for NodeAnswered {
    fn today(self) -> ShardReply {
        match self {
            Self::Room(answer) => ShardReply::Room(answer.today()),
            Self::User(answer) => ShardReply::User(answer.today()),
            Self::DeviceKey(key) => ShardReply::DeviceKey(key),
            Self::Knows(knows) => ShardReply::Knows(knows),
            Self::Done => ShardReply::Done,
            Self::Nobody => ShardReply::Nobody,
            Self::Redriven(redriven) => ShardReply::Redriven(redriven.today()),
        }
    }

    fn of(today: &ShardReply) -> Result<Self, NotInVersion> {
        Ok(match today.clone() {
            ShardReply::Room(answer) => Self::Room(Answer::of(&answer)?),
            ShardReply::User(answer) => Self::User(UserAnswer::of(&answer)?),
            ShardReply::DeviceKey(key) => Self::DeviceKey(key),
            ShardReply::Knows(knows) => Self::Knows(knows),
            ShardReply::Done => Self::Done,
            ShardReply::Nobody => Self::Nobody,
            ShardReply::Redriven(redriven) => Self::Redriven(refusals::Redriven::of(&redriven)?),
            ShardReply::Named(_) => {
                return Err(NotInVersion {
                    version: 1,
                    what: "name of a group",
                });
            }
        })
    }
}

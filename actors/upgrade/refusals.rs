//! Refusals as version 1 had them: a variant for each reason to come again, and flaws without a field.

use super::Before;
use crate::{
    ids::{ProviderId, UserUri},
    limits::{
        CLAIM_USERS_MAX, INTRODUCTIONS_PER_USER_MAX, PROPOSALS_PER_BUNDLE_MAX,
        REFUSAL_DETAIL_BYTES_MAX,
    },
    link,
    user::outcome::{self as user, Claimed as ClaimedToday, Counted},
    wire::{
        BText, BVec, Payload,
        answer::Refused as RoomToday,
        claim::{ClaimResponse as ResponseToday, ClaimedClient, ClaimedUser as ClaimedUserToday},
        door::{self, PackageRefused},
        event::{Epoch, Hash},
        joining::{CodeId, Introduced as IntroducedToday, IntroductionFacts, MadeCode},
        link as link_wire,
        refusal::{Flaw, RefusalCode, TryLater, Why},
        version::NotInVersion,
    },
};
use crate::{limits::CLIENTS_PER_USER_MAX, wire::claim};
use serde::{Deserialize, Serialize};

/// The variant that a reason to come again had of its own.
macro_rules! told_apart {
    ($later:expr) => {{
        let retry_after_ms = $later.after_ms;
        match $later.why {
            Why::Overloaded => Self::Overloaded { retry_after_ms },
            Why::Unavailable => Self::Unavailable { retry_after_ms },
        }
    }};
}

fn bad_frame(detail: &str) -> Flaw {
    Flaw::new(RefusalCode::BadFrame, detail)
}

#[derive(Serialize, Deserialize)]
pub(super) enum Refused {
    NotAuthorized,
    Ended,
    NotMember,
    Exists,
    WrongEpoch {
        current: Epoch,
        winner: Hash,
    },
    UnknownProposals {
        references: BVec<Payload, PROPOSALS_PER_BUNDLE_MAX>,
    },
    OmittedProposals {
        references: BVec<Payload, PROPOSALS_PER_BUNDLE_MAX>,
    },
    InvalidProposals {
        references: BVec<Payload, PROPOSALS_PER_BUNDLE_MAX>,
        detail: BText<REFUSAL_DETAIL_BYTES_MAX>,
    },
    Invalid {
        code: RefusalCode,
        detail: BText<REFUSAL_DETAIL_BYTES_MAX>,
    },
    TooMany {
        what: BText<64>,
        max: u32,
    },
    Busy {
        place: u32,
        expected_wait_ms: u32,
    },
    Limited {
        retry_after_ms: u32,
    },
    PeerBehind {
        provider: ProviderId,
        retry_after_ms: u32,
    },
    LeaseRequired,
    LeaseExpired,
    Overloaded {
        retry_after_ms: u32,
    },
    Unavailable {
        retry_after_ms: u32,
    },
    StorageFull,
    Poisoned,
}

impl Before<RoomToday> for Refused {
    fn today(self) -> RoomToday {
        match self {
            Self::NotAuthorized => RoomToday::NotAuthorized,
            Self::Ended => RoomToday::Ended,
            Self::NotMember => RoomToday::NotMember,
            Self::Exists => RoomToday::Exists,
            Self::WrongEpoch { current, winner } => RoomToday::WrongEpoch { current, winner },
            Self::UnknownProposals { references } => RoomToday::UnknownProposals { references },
            Self::OmittedProposals { references } => RoomToday::OmittedProposals { references },
            Self::InvalidProposals { references, detail } => {
                RoomToday::InvalidProposals { references, detail }
            }
            Self::Invalid { code, detail } => RoomToday::Invalid(Flaw {
                code,
                detail,
                field: None,
                offset: None,
            }),
            Self::TooMany { what, max } => RoomToday::TooMany { what, max },
            Self::Busy {
                place,
                expected_wait_ms,
            } => RoomToday::Busy {
                place,
                expected_wait_ms,
            },
            Self::Limited { retry_after_ms } => RoomToday::Limited { retry_after_ms },
            Self::PeerBehind {
                provider,
                retry_after_ms,
            } => RoomToday::PeerBehind {
                provider,
                retry_after_ms,
            },
            Self::LeaseRequired => RoomToday::LeaseRequired,
            Self::LeaseExpired => RoomToday::LeaseExpired,
            Self::Overloaded { retry_after_ms } => {
                RoomToday::TryLater(TryLater::overloaded(retry_after_ms))
            }
            Self::Unavailable { retry_after_ms } => {
                RoomToday::TryLater(TryLater::unavailable(retry_after_ms))
            }
            Self::StorageFull => RoomToday::StorageFull,
            Self::Poisoned => RoomToday::Poisoned,
        }
    }

    fn of(today: &RoomToday) -> Result<Self, NotInVersion> {
        Ok(match today.clone() {
            RoomToday::NotAuthorized => Self::NotAuthorized,
            RoomToday::Ended => Self::Ended,
            RoomToday::NotMember => Self::NotMember,
            RoomToday::Exists => Self::Exists,
            RoomToday::WrongEpoch { current, winner } => Self::WrongEpoch { current, winner },
            RoomToday::UnknownProposals { references } => Self::UnknownProposals { references },
            RoomToday::OmittedProposals { references } => Self::OmittedProposals { references },
            RoomToday::InvalidProposals { references, detail } => {
                Self::InvalidProposals { references, detail }
            }
            RoomToday::Invalid(flaw) => Self::Invalid {
                code: flaw.code,
                detail: flaw.detail,
            },
            RoomToday::TooMany { what, max } => Self::TooMany { what, max },
            RoomToday::Busy {
                place,
                expected_wait_ms,
            } => Self::Busy {
                place,
                expected_wait_ms,
            },
            RoomToday::Limited { retry_after_ms } => Self::Limited { retry_after_ms },
            RoomToday::PeerBehind {
                provider,
                retry_after_ms,
            } => Self::PeerBehind {
                provider,
                retry_after_ms,
            },
            RoomToday::LeaseRequired => Self::LeaseRequired,
            RoomToday::LeaseExpired => Self::LeaseExpired,
            RoomToday::TryLater(later) => told_apart!(later),
            RoomToday::StorageFull => Self::StorageFull,
            RoomToday::Poisoned => Self::Poisoned,
            RoomToday::ProviderUnknown { .. } => Self::Invalid {
                code: RefusalCode::ProviderUnknown,
                detail: BText::clipped(&today.to_string()),
            },
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) enum DoorRefused {
    NotLoggedIn,
    NotKnown,
    NotEnrolled {
        detail: BText<REFUSAL_DETAIL_BYTES_MAX>,
    },
    SenderNotBound {
        detail: BText<REFUSAL_DETAIL_BYTES_MAX>,
    },
    BadFrame {
        detail: BText<REFUSAL_DETAIL_BYTES_MAX>,
    },
    Overloaded {
        retry_after_ms: u32,
    },
    Unavailable {
        retry_after_ms: u32,
    },
    StorageFull,
}

impl Before<door::DoorRefused> for DoorRefused {
    fn today(self) -> door::DoorRefused {
        use door::DoorRefused as Today;
        match self {
            Self::NotLoggedIn => Today::NotLoggedIn,
            Self::NotKnown => Today::NotKnown,
            Self::NotEnrolled { detail } => Today::NotEnrolled { detail },
            Self::SenderNotBound { detail } => Today::SenderNotBound { detail },
            Self::BadFrame { detail } => Today::BadFrame(bad_frame(&detail)),
            Self::Overloaded { retry_after_ms } => {
                Today::TryLater(TryLater::overloaded(retry_after_ms))
            }
            Self::Unavailable { retry_after_ms } => {
                Today::TryLater(TryLater::unavailable(retry_after_ms))
            }
            Self::StorageFull => Today::StorageFull,
        }
    }

    fn of(today: &door::DoorRefused) -> Result<Self, NotInVersion> {
        use door::DoorRefused as Today;
        Ok(match today.clone() {
            Today::NotLoggedIn => Self::NotLoggedIn,
            Today::NotKnown => Self::NotKnown,
            Today::NotEnrolled { detail } => Self::NotEnrolled { detail },
            Today::SenderNotBound { detail } => Self::SenderNotBound { detail },
            Today::BadFrame(flaw) => Self::BadFrame {
                detail: flaw.detail,
            },
            Today::TryLater(later) => told_apart!(later),
            Today::StorageFull => Self::StorageFull,
            Today::ProviderUnknown { .. } => Self::SenderNotBound {
                detail: BText::clipped(&today.to_string()),
            },
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) enum LinkRefused {
    SenderNotBound,
    NotOwner,
    BadFrame {
        detail: BText<REFUSAL_DETAIL_BYTES_MAX>,
    },
    Overloaded {
        retry_after_ms: u32,
    },
    Unavailable {
        retry_after_ms: u32,
    },
}

impl Before<link_wire::LinkRefused> for LinkRefused {
    fn today(self) -> link_wire::LinkRefused {
        use link_wire::LinkRefused as Today;
        match self {
            Self::SenderNotBound => Today::SenderNotBound,
            Self::NotOwner => Today::NotOwner,
            Self::BadFrame { detail } => Today::BadFrame(bad_frame(&detail)),
            Self::Overloaded { retry_after_ms } => {
                Today::TryLater(TryLater::overloaded(retry_after_ms))
            }
            Self::Unavailable { retry_after_ms } => {
                Today::TryLater(TryLater::unavailable(retry_after_ms))
            }
        }
    }

    fn of(today: &link_wire::LinkRefused) -> Result<Self, NotInVersion> {
        use link_wire::LinkRefused as Today;
        Ok(match today.clone() {
            Today::SenderNotBound => Self::SenderNotBound,
            Today::NotOwner => Self::NotOwner,
            Today::BadFrame(flaw) => Self::BadFrame {
                detail: flaw.detail,
            },
            Today::TryLater(later) => told_apart!(later),
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) enum ClaimRefused {
    Unknown,
    Deleted,
    NoConsent,
    IncompatibleProtocol,
    ForeignUser,
    Unsigned,
    NotRelayed,
    Limited { retry_after_ms: u32 },
    AnswerFull,
    Conflict,
    Unavailable { retry_after_ms: u32 },
}

impl Before<claim::UserRefused> for ClaimRefused {
    fn today(self) -> claim::UserRefused {
        use claim::UserRefused as Today;
        match self {
            Self::Unknown => Today::Unknown,
            Self::Deleted => Today::Deleted,
            Self::NoConsent => Today::NoConsent,
            Self::IncompatibleProtocol => Today::IncompatibleProtocol,
            Self::ForeignUser => Today::ForeignUser,
            Self::Unsigned => Today::Unsigned,
            Self::NotRelayed => Today::NotRelayed,
            Self::Limited { retry_after_ms } => Today::Limited { retry_after_ms },
            Self::AnswerFull => Today::AnswerFull,
            Self::Conflict => Today::Conflict,
            Self::Unavailable { retry_after_ms } => {
                Today::TryLater(TryLater::unavailable(retry_after_ms))
            }
        }
    }

    fn of(today: &claim::UserRefused) -> Result<Self, NotInVersion> {
        use claim::UserRefused as Today;
        Ok(match *today {
            Today::Unknown => Self::Unknown,
            Today::Deleted => Self::Deleted,
            Today::NoConsent => Self::NoConsent,
            Today::IncompatibleProtocol => Self::IncompatibleProtocol,
            Today::ForeignUser => Self::ForeignUser,
            Today::Unsigned => Self::Unsigned,
            Today::NotRelayed => Self::NotRelayed,
            Today::Limited { retry_after_ms } => Self::Limited { retry_after_ms },
            Today::AnswerFull => Self::AnswerFull,
            Today::Conflict => Self::Conflict,
            // A claim had no word of its own for a node with too much to do.
            Today::TryLater(TryLater { after_ms, .. }) => Self::Unavailable {
                retry_after_ms: after_ms,
            },
            // Nothing comes of asking again.
            Today::ProviderUnknown => Self::Unknown,
        })
    }
}

pub(super) type Claimed = Result<BVec<ClaimedClient, CLIENTS_PER_USER_MAX>, ClaimRefused>;

impl Before<ClaimedToday> for Claimed {
    fn today(self) -> ClaimedToday {
        self.map_err(ClaimRefused::today)
    }

    fn of(today: &ClaimedToday) -> Result<Self, NotInVersion> {
        Ok(match today {
            Ok(clients) => Ok(clients.clone()),
            Err(refused) => Err(ClaimRefused::of(refused)?),
        })
    }
}

#[derive(Serialize, Deserialize)]
struct ClaimedUser {
    user: UserUri,
    result: Claimed,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ClaimResponse {
    users: BVec<ClaimedUser, CLAIM_USERS_MAX>,
}

impl Before<ResponseToday> for ClaimResponse {
    fn today(self) -> ResponseToday {
        let users = self.users.map(|claimed| ClaimedUserToday {
            user: claimed.user,
            result: claimed.result.today(),
        });
        ResponseToday { users }
    }

    fn of(today: &ResponseToday) -> Result<Self, NotInVersion> {
        let users = today.users.refs().try_map(|claimed| {
            let result = Claimed::of(&claimed.result)?;
            let user = claimed.user.clone();
            Ok(ClaimedUser { user, result })
        });
        Ok(Self { users: users? })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) enum Introduced {
    Created(MadeCode),
    Listed(BVec<IntroductionFacts, INTRODUCTIONS_PER_USER_MAX>),
    Revoked,
    Resolved(UserUri),
    NotAuthorized,
    TooMany { max: u32 },
    Unavailable { retry_after_ms: u32 },
}

impl Before<IntroducedToday> for Introduced {
    fn today(self) -> IntroducedToday {
        match self {
            Self::Created(made) => IntroducedToday::Created(made),
            Self::Listed(facts) => IntroducedToday::Listed(facts),
            Self::Revoked => IntroducedToday::Revoked,
            Self::Resolved(user) => IntroducedToday::Resolved(user),
            Self::NotAuthorized => IntroducedToday::NotAuthorized,
            Self::TooMany { max } => IntroducedToday::TooMany { max },
            Self::Unavailable { retry_after_ms } => {
                IntroducedToday::TryLater(TryLater::unavailable(retry_after_ms))
            }
        }
    }

    fn of(today: &IntroducedToday) -> Result<Self, NotInVersion> {
        Ok(match today.clone() {
            IntroducedToday::Created(made) => Self::Created(made),
            IntroducedToday::Listed(facts) => Self::Listed(facts),
            IntroducedToday::Revoked => Self::Revoked,
            IntroducedToday::Resolved(user) => Self::Resolved(user),
            IntroducedToday::NotAuthorized => Self::NotAuthorized,
            IntroducedToday::TooMany { max } => Self::TooMany { max },
            IntroducedToday::TryLater(TryLater { after_ms, .. }) => Self::Unavailable {
                retry_after_ms: after_ms,
            },
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) enum UserRefused {
    Unknown,
    Deleted,
    NotKnown,
    Taken,
    TooMany { what: Counted, max: u32 },
    Overloaded { retry_after_ms: u32 },
    Unavailable { retry_after_ms: u32 },
    StorageFull,
    Poisoned,
}

impl Before<user::Refused> for UserRefused {
    fn today(self) -> user::Refused {
        use user::Refused as Today;
        match self {
            Self::Unknown => Today::Unknown,
            Self::Deleted => Today::Deleted,
            Self::NotKnown => Today::NotKnown,
            Self::Taken => Today::Taken,
            Self::TooMany { what, max } => Today::TooMany { what, max },
            Self::Overloaded { retry_after_ms } => {
                Today::TryLater(TryLater::overloaded(retry_after_ms))
            }
            Self::Unavailable { retry_after_ms } => {
                Today::TryLater(TryLater::unavailable(retry_after_ms))
            }
            Self::StorageFull => Today::StorageFull,
            Self::Poisoned => Today::Poisoned,
        }
    }

    fn of(today: &user::Refused) -> Result<Self, NotInVersion> {
        use user::Refused as Today;
        Ok(match *today {
            Today::Unknown => Self::Unknown,
            Today::Deleted => Self::Deleted,
            Today::NotKnown => Self::NotKnown,
            Today::Taken => Self::Taken,
            Today::TooMany { what, max } => Self::TooMany { what, max },
            Today::TryLater(later) => told_apart!(later),
            Today::StorageFull => Self::StorageFull,
            Today::Poisoned => Self::Poisoned,
            Today::NotAuthorized | Today::Limited { .. } => {
                return Err(NotInVersion {
                    version: 1,
                    what: "refusal of a user",
                });
            }
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) enum UserAnswer {
    Done,
    Enrolled,
    Uploaded(Vec<Result<(), PackageRefused>>),
    Claimed(Claimed),
    IntroductionKept(CodeId),
    Introduced(Introduced),
    Refused(UserRefused),
    Unchanged,
}

impl Before<user::Answer> for UserAnswer {
    fn today(self) -> user::Answer {
        use user::Answer as Today;
        match self {
            Self::Done => Today::Done,
            Self::Enrolled => Today::Enrolled,
            Self::Uploaded(results) => Today::Uploaded(results),
            Self::Claimed(claimed) => Today::Claimed(claimed.today()),
            Self::IntroductionKept(id) => Today::IntroductionKept(id),
            Self::Introduced(introduced) => Today::Introduced(introduced.today()),
            Self::Refused(refused) => Today::Refused(refused.today()),
            Self::Unchanged => Today::Unchanged,
        }
    }

    fn of(today: &user::Answer) -> Result<Self, NotInVersion> {
        use user::Answer as Today;
        Ok(match today {
            Today::Done => Self::Done,
            Today::Enrolled => Self::Enrolled,
            Today::Uploaded(results) => Self::Uploaded(results.clone()),
            Today::Claimed(claimed) => Self::Claimed(Claimed::of(claimed)?),
            Today::IntroductionKept(id) => Self::IntroductionKept(*id),
            Today::Introduced(introduced) => Self::Introduced(Introduced::of(introduced)?),
            Today::Refused(refused) => Self::Refused(UserRefused::of(refused)?),
            Today::Unchanged => Self::Unchanged,
            Today::Consents(_) => {
                return Err(NotInVersion {
                    version: 1,
                    what: "list of consents",
                });
            }
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) enum Redriven {
    Items(u64),
    Nothing,
    StorageFull,
    Unavailable { retry_after_ms: u32 },
}

impl Before<link::Redriven> for Redriven {
    fn today(self) -> link::Redriven {
        match self {
            Self::Items(items) => link::Redriven::Items(items),
            Self::Nothing => link::Redriven::Nothing,
            Self::StorageFull => link::Redriven::StorageFull,
            Self::Unavailable { retry_after_ms } => {
                link::Redriven::TryLater(TryLater::unavailable(retry_after_ms))
            }
        }
    }

    fn of(today: &link::Redriven) -> Result<Self, NotInVersion> {
        Ok(match *today {
            link::Redriven::Items(items) => Self::Items(items),
            link::Redriven::Nothing => Self::Nothing,
            link::Redriven::StorageFull => Self::StorageFull,
            link::Redriven::TryLater(TryLater { after_ms, .. }) => Self::Unavailable {
                retry_after_ms: after_ms,
            },
        })
    }
}

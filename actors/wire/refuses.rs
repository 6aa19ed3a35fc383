//! Each kind of refusal in the one shape of all: its code, and what whoever was refused can do.

use super::{
    answer::Refused,
    claim::{ClientRefused, UserRefused},
    door::{DoorRefused, PackageRefused},
    event::SubmitRefused,
    link::LinkRefused,
    refusal::{Refusal, RefusalCode, Refuses, Retry},
    user,
};

impl Refuses for Refused {
    fn refusal(&self) -> Refusal {
        let (code, retry) = match self {
            Self::NotAuthorized => (RefusalCode::NotAuthorized, Retry::Never),
            Self::Ended => (RefusalCode::Ended, Retry::Never),
            Self::NotMember => (RefusalCode::NotMember, Retry::Never),
            Self::Exists => (RefusalCode::Exists, Retry::Never),
            Self::WrongEpoch { .. } => (RefusalCode::WrongEpoch, Retry::Anew),
            Self::UnknownProposals { .. } => (RefusalCode::UnknownProposals, Retry::Anew),
            Self::OmittedProposals { .. } => (RefusalCode::OmittedProposals, Retry::Anew),
            Self::InvalidProposals { .. } => (RefusalCode::InvalidProposals, Retry::Never),
            Self::Invalid(flaw) => return flaw.into(),
            Self::TooMany { .. } => (RefusalCode::TooMany, Retry::Never),
            Self::Busy {
                expected_wait_ms, ..
            } => (RefusalCode::Busy, Retry::AnewAfter(*expected_wait_ms)),
            Self::Limited { retry_after_ms } => {
                (RefusalCode::Limited, Retry::AnewAfter(*retry_after_ms))
            }
            Self::PeerBehind { retry_after_ms, .. } => {
                (RefusalCode::PeerBehind, Retry::SameAfter(*retry_after_ms))
            }
            Self::LeaseRequired => (RefusalCode::LeaseRequired, Retry::Anew),
            Self::LeaseExpired => (RefusalCode::LeaseExpired, Retry::Anew),
            Self::TryLater(later) => return (*later).into(),
            Self::StorageFull => (RefusalCode::StorageFull, Retry::SameOnceMended),
            Self::Poisoned => (RefusalCode::Poisoned, Retry::SameOnceMended),
            Self::ProviderUnknown { .. } => (RefusalCode::ProviderUnknown, Retry::Never),
        };
        Refusal::of(code, retry)
    }
}

impl Refuses for DoorRefused {
    fn refusal(&self) -> Refusal {
        let (code, retry) = match self {
            Self::NotLoggedIn => (RefusalCode::NotLoggedIn, Retry::Anew),
            Self::NotKnown => (RefusalCode::NotKnown, Retry::Never),
            Self::NotEnrolled { .. } => (RefusalCode::NotEnrolled, Retry::Never),
            Self::SenderNotBound { .. } => (RefusalCode::SenderNotBound, Retry::Never),
            Self::BadFrame(flaw) => return flaw.into(),
            Self::TryLater(later) => return (*later).into(),
            Self::StorageFull => (RefusalCode::StorageFull, Retry::SameOnceMended),
            Self::ProviderUnknown { .. } => (RefusalCode::ProviderUnknown, Retry::Never),
        };
        Refusal::of(code, retry)
    }
}

impl Refuses for LinkRefused {
    fn refusal(&self) -> Refusal {
        match self {
            Self::SenderNotBound => Refusal::of(RefusalCode::SenderNotBound, Retry::Never),
            Self::NotOwner => Refusal::of(RefusalCode::NotOwner, Retry::Never).in_field("room"),
            Self::BadFrame(flaw) => flaw.into(),
            Self::TryLater(later) => (*later).into(),
        }
    }
}

impl Refuses for UserRefused {
    fn refusal(&self) -> Refusal {
        let (code, retry) = match self {
            Self::Unknown => (RefusalCode::UserUnknown, Retry::Never),
            Self::Deleted => (RefusalCode::UserDeleted, Retry::Never),
            Self::NoConsent => (RefusalCode::NoConsent, Retry::Never),
            Self::IncompatibleProtocol => (RefusalCode::IncompatibleProtocol, Retry::Never),
            Self::ForeignUser => (RefusalCode::ForeignUser, Retry::Never),
            Self::Unsigned => (RefusalCode::Unsigned, Retry::Never),
            Self::NotRelayed => (RefusalCode::NotRelayed, Retry::Never),
            Self::Limited { retry_after_ms } => {
                (RefusalCode::Limited, Retry::SameAfter(*retry_after_ms))
            }
            Self::AnswerFull => (RefusalCode::AnswerFull, Retry::SameAfter(0)),
            Self::Conflict => (RefusalCode::Conflict, Retry::Anew),
            Self::TryLater(later) => return (*later).into(),
            Self::ProviderUnknown => (RefusalCode::ProviderUnknown, Retry::Never),
        };
        Refusal::of(code, retry).in_field("users")
    }
}

impl Refuses for user::Refused {
    fn refusal(&self) -> Refusal {
        let (code, retry) = match self {
            Self::Unknown => (RefusalCode::UserUnknown, Retry::Never),
            Self::Deleted => (RefusalCode::UserDeleted, Retry::Never),
            Self::NotKnown => (RefusalCode::NotKnown, Retry::Never),
            Self::Taken => (RefusalCode::NotEnrolled, Retry::Never),
            Self::TooMany { .. } => (RefusalCode::TooMany, Retry::Never),
            Self::TryLater(later) => return (*later).into(),
            Self::StorageFull => (RefusalCode::StorageFull, Retry::SameOnceMended),
            Self::Poisoned => (RefusalCode::Poisoned, Retry::SameOnceMended),
            Self::NotAuthorized => (RefusalCode::NotAuthorized, Retry::Never),
            Self::Limited { retry_after_ms } => {
                (RefusalCode::Limited, Retry::SameAfter(*retry_after_ms))
            }
        };
        Refusal::of(code, retry)
    }
}

impl Refuses for ClientRefused {
    fn refusal(&self) -> Refusal {
        let code = match self {
            Self::NoneCompatible => RefusalCode::NoneCompatible,
            Self::Exhausted => RefusalCode::Exhausted,
        };
        Refusal::of(code, Retry::Never).in_field("users")
    }
}

impl Refuses for PackageRefused {
    fn refusal(&self) -> Refusal {
        let code = match self {
            Self::Invalid { .. } => RefusalCode::InvalidKeyPackage,
            Self::Duplicate => RefusalCode::Duplicate,
            Self::Full { .. } => RefusalCode::StockFull,
        };
        Refusal::of(code, Retry::Never).in_field("packages")
    }
}

impl Refuses for SubmitRefused {
    fn refusal(&self) -> Refusal {
        let (code, retry) = match self {
            Self::NotAuthorized => (RefusalCode::NotAuthorized, Retry::Never),
            Self::NotMember => (RefusalCode::NotMember, Retry::Never),
            Self::EpochTooOld { .. } => (RefusalCode::EpochTooOld, Retry::Anew),
            Self::EpochAhead { .. } => (RefusalCode::EpochAhead, Retry::Anew),
            Self::Malformed => (RefusalCode::Malformed, Retry::Never),
            Self::Ended => (RefusalCode::Ended, Retry::Never),
            Self::Poisoned => (RefusalCode::Poisoned, Retry::Never),
            Self::Duplicate => (RefusalCode::Duplicate, Retry::Never),
            Self::NoVoice => (RefusalCode::NoVoice, Retry::Never),
        };
        Refusal::of(code, retry).in_field("messages")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::refusal::{Flaw, TryLater};

    #[test]
    fn what_may_be_sent_again_says_when() {
        let later = Refused::TryLater(TryLater::BUSY).refusal();
        assert_eq!(later.code, RefusalCode::Overloaded);
        assert_eq!(later.retry, Retry::SameAfter(250));
        for waits in [Refused::StorageFull, Refused::Poisoned] {
            assert_eq!(waits.refusal().retry, Retry::SameOnceMended);
        }
        let lost = Refused::WrongEpoch {
            current: crate::wire::event::Epoch(3),
            winner: crate::wire::event::Hash::default(),
        };
        assert_eq!(lost.refusal().retry, Retry::Anew);
        let flaw = Flaw::new(RefusalCode::Malformed, "cut").in_field("commit");
        let refusal = Refused::Invalid(flaw.at_byte(Some(17))).refusal();
        assert_eq!(refusal.field.as_deref(), Some("commit"));
        assert_eq!((refusal.offset, refusal.retry), (Some(17), Retry::Never));
    }
}

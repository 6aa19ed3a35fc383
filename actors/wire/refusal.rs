//! What all refusals have in common: a code out of one table, the field that is at fault, and what whoever asked can do.
//!
//! Each kind of answer has an enum of refusals of its own, which only names what can happen there. [`Refuses`] gives
//! all of them one shape, for whoever counts, logs or translates them into another protocol.

use super::BText;
use crate::limits::{FIELD_BYTES_MAX, REFUSAL_DETAIL_BYTES_MAX};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The same request may be sent again: nothing is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TryLater {
    /// Why not now.
    pub why: Why,
    /// When, in milliseconds from now.
    pub after_ms: u32,
}

/// Why a request has to come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// Too much waits already. Nothing was done.
    Overloaded,
    /// Whoever decides cannot be reached, or did not answer in time: where that was waited for, it may have been done all
    /// the same.
    Unavailable,
}

impl TryLater {
    /// A queue of this node is full; it empties in moments.
    pub const BUSY: Self = Self::overloaded(250);
    /// What was done for the request is lost with what it was checked on.
    pub const AGAIN: Self = Self::overloaded(250);
    /// More of this room waits for its hub than may.
    pub const ROOM_FULL: Self = Self::overloaded(500);
    /// No node leads the shard; an election takes about that long.
    pub const NOT_LED: Self = Self::unavailable(500);
    /// No answer came in time.
    pub const UNANSWERED: Self = Self::unavailable(1_000);
    /// The other provider cannot be reached.
    pub const PEER_SILENT: Self = Self::unavailable(1_000);

    /// Too much waits.
    #[must_use]
    pub const fn overloaded(after_ms: u32) -> Self {
        let why = Why::Overloaded;
        Self { why, after_ms }
    }

    /// Whoever decides cannot be reached.
    #[must_use]
    pub const fn unavailable(after_ms: u32) -> Self {
        let why = Why::Unavailable;
        Self { why, after_ms }
    }
}

impl TryLater {
    /// Whether whoever decides could not be reached, or did not answer in time.
    #[must_use]
    pub fn is_unavailable(self) -> bool {
        self.why == Why::Unavailable
    }
}

impl fmt::Display for TryLater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why {
            Why::Overloaded => "overloaded",
            Why::Unavailable => "unavailable",
        };
        write!(f, "{why}, retry after {} ms", self.after_ms)
    }
}

/// What is wrong with a part of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flaw {
    /// Of which kind.
    pub code: RefusalCode,
    /// What is wrong, for people.
    pub detail: BText<REFUSAL_DETAIL_BYTES_MAX>,
    /// The field of the request, as a path of names; none where it is not one field.
    pub field: Option<BText<FIELD_BYTES_MAX>>,
    /// The byte at which it stops being what it must be, where that can be said: in the field, or, where the code is
    /// `bad_frame`, in the frame.
    pub offset: Option<u32>,
}

impl Flaw {
    /// A flaw of the request as a whole.
    #[must_use]
    pub fn new(code: RefusalCode, detail: &str) -> Self {
        Self {
            code,
            detail: BText::clipped(detail),
            field: None,
            offset: None,
        }
    }

    /// The same flaw, which is in this field.
    #[must_use]
    pub fn in_field(mut self, field: &str) -> Self {
        self.field = Some(BText::clipped(field));
        self
    }

    /// The same flaw, which begins at this byte of its field.
    #[must_use]
    pub fn at_byte(mut self, offset: Option<usize>) -> Self {
        self.offset = offset.and_then(|offset| u32::try_from(offset).ok());
        self
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.detail)?;
        if let Some(field) = &self.field {
            write!(f, " (in {field})")?;
        }
        Ok(())
    }
}

/// What whoever was refused can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Nothing: the same request will be refused again.
    Never,
    /// Make another request of what has changed, at once.
    Anew,
    /// Make another request, so many milliseconds from now.
    AnewAfter(u32),
    /// Send the same request again, so many milliseconds from now.
    SameAfter(u32),
    /// Send the same request again, once the operator has mended what is wrong.
    SameOnceMended,
}

impl Retry {
    /// Whether the same request may get another answer later.
    #[must_use]
    pub const fn is_same(self) -> bool {
        matches!(self, Self::SameAfter(_) | Self::SameOnceMended)
    }
}

impl From<TryLater> for Retry {
    fn from(later: TryLater) -> Self {
        Self::SameAfter(later.after_ms)
    }
}

/// A refusal of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Of which kind.
    pub code: RefusalCode,
    /// The field of the request that is at fault.
    pub field: Option<BText<FIELD_BYTES_MAX>>,
    /// The byte at which it is, see [`Flaw::offset`].
    pub offset: Option<u32>,
    /// What to do.
    pub retry: Retry,
}

impl Refusal {
    pub(super) fn of(code: RefusalCode, retry: Retry) -> Self {
        Self {
            code,
            field: None,
            offset: None,
            retry,
        }
    }

    pub(super) fn in_field(mut self, field: &str) -> Self {
        self.field = Some(BText::clipped(field));
        self
    }
}

impl From<TryLater> for Refusal {
    fn from(later: TryLater) -> Self {
        let code = match later.why {
            Why::Overloaded => RefusalCode::Overloaded,
            Why::Unavailable => RefusalCode::Unavailable,
        };
        Self::of(code, later.into())
    }
}

impl From<&Flaw> for Refusal {
    fn from(flaw: &Flaw) -> Self {
        Self {
            code: flaw.code,
            field: flaw.field.clone(),
            offset: flaw.offset,
            retry: Retry::Never,
        }
    }
}

/// What can be refused, told in the one shape of all refusals.
pub trait Refuses {
    /// The refusal.
    fn refusal(&self) -> Refusal;
}

macro_rules! codes {
    ($($name:ident $text:literal $means:literal,)+) => {
        /// The kinds of refusals of all doors: the one table of them. A code's name never changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum RefusalCode {
            $(#[doc = $means] $name,)+
        }

        impl RefusalCode {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Its name, as it travels and as a program compares it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }

            /// What it means, for people.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $means,)+
                }
            }

            /// The code of a name; [`RefusalCode::Unknown`] of one that this build does not know.
            #[must_use]
            pub fn named(name: &str) -> Self {
                match name {
                    $($text => Self::$name,)+
                    _ => Self::Unknown,
                }
            }
        }
    };
}

codes! {
    Unknown "unknown" "a code that this release does not know",
    // The frame, the connection, and who is behind it.
    BadFrame "bad_frame" "the frame does not decode, or breaks a limit",
    NotLoggedIn "not_logged_in" "the connection has not proved a device",
    NotKnown "not_known" "the device, the proof or the code is not right",
    NotEnrolled "not_enrolled" "the device cannot be enrolled",
    SenderNotBound "sender_not_bound" "the request names somebody or something that is not the sender's",
    NotOwner "not_owner" "this provider does not own the room",
    NotAuthorized "not_authorized" "not authorized for this room, or there is none",
    // The node.
    Overloaded "overloaded" "too much waits already; nothing was done",
    Unavailable "unavailable" "whoever decides cannot answer now",
    StorageFull "storage_full" "the provider's log is full until its operator makes room",
    Poisoned "poisoned" "the room or user is frozen and waits for its operator",
    // The room.
    Exists "exists" "the room exists already",
    GroupTaken "group_taken" "another room of the provider has, or was to have, a group with this id",
    Ended "ended" "the room's group was ended by a ReInit",
    NotMember "not_member" "the sender is not a member of the room",
    WrongEpoch "wrong_epoch" "the epoch is not the room's",
    EpochTooOld "epoch_too_old" "the epoch is further back than the room tolerates",
    EpochAhead "epoch_ahead" "the epoch does not exist yet",
    TooMany "too_many" "a limit is reached",
    Limited "limited" "too often in too short a time",
    PeerBehind "peer_behind" "too much waits for a provider that would come in",
    ProviderUnknown "provider_unknown" "a provider is not one that is spoken to here",
    // Its policy.
    ForbiddenByPolicy "forbidden_by_policy" "the room's policy does not allow it; what is missing is named",
    BadPolicy "bad_policy" "a component of room policy is malformed, contradicts another or the group, or locks everybody out",
    NoVoice "no_voice" "the sender's role may not send messages",
    // Handshakes.
    Malformed "malformed" "a part is not a well-formed MLS object, or exceeds a limit",
    MalformedCommit "malformed_commit" "the Commit is not a well-formed MLS message",
    Unsupported "unsupported" "it uses what this hub does not take",
    WrongGroup "wrong_group" "it is of another group",
    Signature "signature" "a signature is wrong",
    UnknownProposals "unknown_proposals" "the Commit names Proposals that are not pending",
    OmittedProposals "omitted_proposals" "the Commit omits Proposals that it must take in",
    InvalidProposals "invalid_proposals" "Proposals are invalid, alone or together",
    TreeMismatch "tree_mismatch" "the ratchet tree is not the one of the next epoch",
    TreeNotWhole "tree_not_whole" "a new group comes with its whole tree",
    TreeTooLarge "tree_too_large" "the tree is larger than a tree may be",
    BadTreeZstd "bad_tree_zstd" "the tree is not the one zstd frame that it should be",
    BadTreeDelta "bad_tree_delta" "the tree is not a delta that fits",
    TreeHostUnknown "tree_host_unknown" "the tree is at a host that this hub does not know",
    GroupInfoMismatch "group_info_mismatch" "the GroupInfo is not of the epoch that the Commit opens",
    WelcomeMismatch "welcome_mismatch" "the Welcome is not for those whom the Commit adds",
    // Of a hub of release 0.1; since then OpenMLS decides nothing.
    Audit "audit" "the second check of the Commit found something else",
    // Joining.
    Busy "busy" "another joiner has the room's lease",
    LeaseRequired "lease_required" "an external Commit needs the lease that comes with a GroupInfo",
    LeaseExpired "lease_expired" "the lease is over",
    Replayed "replayed" "the request had its lease",
    ExternalCommit "external_commit" "the external Commit breaks a rule of its own",
    RequestTime "request_time" "the request is of another time",
    RequestCode "code" "no joining code is like this one",
    CodeTerms "code_terms" "the terms of a joining code admit nobody",
    UnknownCode "unknown_code" "the room has no such joining code",
    HpkeKey "hpke_key" "the joiner's HPKE key is not one",
    Ciphersuite "ciphersuite" "the ciphersuite is not one that is sealed for",
    // KeyPackages.
    InvalidKeyPackage "invalid_key_package" "it is not a KeyPackage of this client that may be handed out",
    Duplicate "duplicate" "the same came before: the message under another number, or the KeyPackage, which is gone, or its init key",
    StockFull "stock_full" "the client's stock of KeyPackages is full",
    UserUnknown "user_unknown" "no such user",
    UserDeleted "user_deleted" "the user was deleted",
    NoConsent "no_consent" "the user gave the requester no consent",
    IncompatibleProtocol "incompatible_protocol" "no version of MLS in common",
    ForeignUser "foreign_user" "the user is another provider's",
    Unsigned "unsigned" "the claim is not signed by the requester",
    NotRelayed "not_relayed" "the hub of the room does not pass the claim on",
    AnswerFull "answer_full" "the answer is full; the same claim gets the rest",
    Conflict "conflict" "the id was used before with another request",
    NoneCompatible "none_compatible" "no KeyPackage fits the terms",
    Exhausted "exhausted" "no KeyPackage is left",
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for RefusalCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for RefusalCode {
    /// Any short text is a code: one that this build does not know is still a refusal.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = BText::<64>::deserialize(deserializer)?;
        Ok(Self::named(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_code_has_one_name_by_which_it_is_found() {
        let names: BTreeSet<&str> = RefusalCode::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), RefusalCode::ALL.len());
        for code in RefusalCode::ALL {
            assert_eq!(RefusalCode::named(code.name()), *code);
            assert!(!code.meaning().is_empty());
        }
        let newer = RefusalCode::named("of_a_later_release");
        assert_eq!(newer, RefusalCode::Unknown);
    }

    #[test]
    fn a_code_that_is_not_known_is_read_as_a_refusal() {
        let bytes = postcard::to_allocvec("of_a_later_release").unwrap();
        let code: RefusalCode = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(code, RefusalCode::Unknown);
        let too_long = postcard::to_allocvec(&"x".repeat(65)).unwrap();
        assert!(postcard::from_bytes::<RefusalCode>(&too_long).is_err());
    }
}

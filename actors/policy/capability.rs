//! What a role may do: numbers and names of the capabilities that a hub acts on; others are passed on as numbers.
//!
//! Source: draft-ietf-mimi-room-policy-03, section 8.

use std::fmt;

/// Something that holders of a role may do, by its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(pub u16);

macro_rules! capabilities {
    ($($constant:ident $number:literal $name:literal,)+) => {
        impl Capability {
            $(#[doc = concat!("`", $name, "`.")] pub const $constant: Self = Self($number);)+

            /// Those that a hub acts on, in ascending order.
            pub const KNOWN: &[Self] = &[$(Self::$constant,)+];

            /// Its name in the draft, for those that a hub acts on.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$constant => Some($name),)+
                    _ => None,
                }
            }
        }
    };
}

capabilities! {
    ADD_PARTICIPANT 0x0000 "canAddParticipant",
    REMOVE_PARTICIPANT 0x0001 "canRemoveParticipant",
    ADD_OWN_CLIENT 0x0002 "canAddOwnClient",
    REMOVE_OWN_CLIENT 0x0003 "canRemoveOwnClient",
    OPEN_JOIN 0x0004 "canOpenJoin",
    JOIN_IF_PREAUTHORIZED 0x0005 "canJoinIfPreauthorized",
    REMOVE_SELF 0x0006 "canRemoveSelf",
    CREATE_JOIN_CODE 0x0007 "canCreateJoinCode",
    DELETE_JOIN_CODE 0x0008 "canDeleteJoinCode",
    USE_JOIN_CODE 0x0009 "canUseJoinCode",
    BAN 0x000a "canBan",
    UNBAN 0x000b "canUnBan",
    KICK 0x000c "canKick",
    CHANGE_USER_ROLE 0x000f "canChangeUserRole",
    CHANGE_OWN_ROLE 0x0010 "canChangeOwnRole",
    SEND_MESSAGE 0x0100 "canSendMessage",
    RECEIVE_MESSAGE 0x0101 "canReceiveMessage",
    CHANGE_NAME 0x0300 "canChangeRoomName",
    CHANGE_DESCRIPTION 0x0301 "canChangeRoomDescription",
    CHANGE_AVATAR 0x0302 "canChangeRoomAvatar",
    CHANGE_SUBJECT 0x0303 "canChangeRoomSubject",
    CHANGE_MOOD 0x0304 "canChangeRoomMood",
    DESTROY_ROOM 0x0501 "canDestroyRoom",
    CHANGE_STYLE 0x0502 "canChangeRoomMembershipStyle",
    CHANGE_ROLES 0x0503 "canChangeRoleDefinitions",
    CHANGE_PREAUTH 0x0504 "canChangePreauthorizedUserList",
    CHANGE_OTHER 0x0505 "canChangeOtherPolicyAttribute",
    CHANGE_OPERATIONAL 0x0600 "canChangeMlsOperationalPolicies",
    REINIT 0x0601 "canSendMLSReinitProposal",
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "capability {:#06x}", self.0),
        }
    }
}

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

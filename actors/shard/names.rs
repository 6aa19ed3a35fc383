//! Which room has which MLS group id, kept in the shard of the id's own hash: two rooms of a provider, in whichever shards, never
//! have one group id.
//!
//! A name is taken before the room is created and never given back, also where the creation then fails: by the room whose it
//! is, it may be taken again. Both are kept as hashes, so a room costs a few bytes here.
//!
//! Source: RFC 9420, section 5.1; transport requirements, section 3.3.

use crate::{ids::RoomUri, mls::codec::group_info::group_id, wire::event::Hash};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// The name of a group: a hash of its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GroupName([u8; 16]);

impl GroupName {
    /// The name of the group that a GroupInfo says it is of; none if it is no GroupInfo. Nothing else is checked.
    #[must_use]
    pub fn in_group_info(message: &[u8]) -> Option<Self> {
        group_id(message).ok().map(Self::of)
    }

    /// The name of the group with an id.
    #[must_use]
    pub fn of(group_id: &[u8]) -> Self {
        let mut name = [0; 16];
        name.iter_mut()
            .zip(Hash::of(group_id).0)
            .for_each(|(to, from)| *to = from);
        Self(name)
    }
}

/// By this its shard is found.
impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a room is known by here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomMark([u8; 8]);

impl RoomMark {
    /// That of a room.
    #[must_use]
    pub fn of(room: &RoomUri) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = Hash::of(room.to_string().as_bytes()).0;
        Self([a, b, c, d, e, f, g, h])
    }
}

/// Takes the name of a group for a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Take {
    /// The group.
    pub group: GroupName,
    /// The room.
    pub room: RoomMark,
}

/// What became of a [`Take`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Taken {
    /// The room has the name.
    Its,
    /// Another room has it.
    Anothers,
    /// The shard goes by the rules of release 0.1: nobody has names yet.
    Nobodys,
}

/// The names in one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names(BTreeMap<GroupName, RoomMark>);

impl Names {
    /// Whether nobody has a name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many names there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Gives a name to a room, if it is nobody's.
    pub(super) fn take(&mut self, take: Take) -> Taken {
        let has = self.0.entry(take.group).or_insert(take.room);
        if *has == take.room {
            Taken::Its
        } else {
            Taken::Anothers
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(group: &str, room: &str) -> Take {
        let room = format!("mimi://a.example/r/{room}").parse().unwrap();
        Take {
            group: GroupName::of(group.as_bytes()),
            room: RoomMark::of(&room),
        }
    }

    #[test]
    fn a_name_is_one_rooms_for_good_and_may_be_taken_by_it_again() {
        let mut names = Names::default();
        assert_eq!(names.take(take("g", "den")), Taken::Its);
        assert_eq!(names.take(take("g", "club")), Taken::Anothers);
        assert_eq!(names.take(take("g", "den")), Taken::Its);
        assert_eq!(names.take(take("h", "den")), Taken::Its);
        assert_eq!(names.take(take("h", "club")), Taken::Anothers);
        assert_eq!(names.len(), 2);
    }

    #[test]
    fn a_room_costs_a_few_bytes() {
        let mut names = Names::default();
        for number in 0..100 {
            names.take(take(&format!("group {number}"), "den"));
        }
        let bytes = postcard::to_stdvec(&names).unwrap().len();
        assert_eq!(bytes, 1 + 100 * (16 + 8));
    }
}

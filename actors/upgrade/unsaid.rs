//! What version 1 had no word of its own for: a message that the room took before, a notice that found no place, and a
//! client that departed.

use crate::{
    ids::{RoomUri, UserUri},
    room::follower::Deliver,
    wire::{
        Unwritten, Versioned,
        door::{DoorItem, Events},
        event::{Item, SubmitRefused, Verdict, VerdictRun},
        link::Fanout,
        post::Note,
        version::{DOOR, Format, LINK},
    },
};

/// What version 1 says of a reason that it has no word for.
const fn said_in_1(reason: SubmitRefused) -> Option<SubmitRefused> {
    match reason {
        SubmitRefused::Duplicate => Some(SubmitRefused::Malformed),
        SubmitRefused::NoVoice => Some(SubmitRefused::NotAuthorized),
        SubmitRefused::NotAuthorized
        | SubmitRefused::NotMember
        | SubmitRefused::EpochTooOld { .. }
        | SubmitRefused::EpochAhead { .. }
        | SubmitRefused::Malformed
        | SubmitRefused::Ended
        | SubmitRefused::Poisoned => None,
    }
}

/// A verdict as version 1 has it.
pub(super) fn verdict_in_1(mut run: VerdictRun) -> VerdictRun {
    if let Verdict::Refused(reason) = run.verdict
        && let Some(said) = said_in_1(reason)
    {
        run.verdict = Verdict::Refused(said);
    }
    run
}

fn is_unsaid(item: &Item) -> bool {
    match item {
        Item::Refused { reason, .. } => said_in_1(*reason).is_some(),
        Item::Departed { .. } => true,
        Item::Event(_) | Item::Refilled { .. } => false,
    }
}

fn item_in_1(item: Item) -> Item {
    match item {
        Item::Refused { submit_seq, reason } => Item::Refused {
            submit_seq,
            reason: said_in_1(reason).unwrap_or(reason),
        },
        Item::Event(_) | Item::Refilled { .. } | Item::Departed { .. } => item,
    }
}

/// A departure for a hub that has no word for it. Numbers have no gap, so something must be said: that the client can be
/// added, to a user of that hub whom nobody has a reason to create.
fn departed_in_1(room: &RoomUri, item: Item) -> Item {
    match item {
        Item::Departed { client, why } => match UserUri::new(room.hub(), "-") {
            Ok(requester) => Item::Refilled { requester, client },
            Err(_) => Item::Departed { client, why },
        },
        Item::Refused { .. } | Item::Event(_) | Item::Refilled { .. } => item,
    }
}

/// What a hub tells of a room, as an entry of version 1 has it, if that is otherwise.
pub(crate) fn deliver_in_1(deliver: &Deliver) -> Option<Deliver> {
    deliver.items.iter().any(is_unsaid).then(|| Deliver {
        items: deliver.items.clone().map(item_in_1),
    })
}

impl Versioned for Fanout {
    const FORMAT: Format = LINK;

    fn write(&self, version: u8, out: Vec<u8>) -> Result<Vec<u8>, Unwritten> {
        let items = || self.groups.iter().flat_map(|group| group.items.iter());
        if version > 1 || !items().any(is_unsaid) {
            return Ok(postcard::to_extend(self, out)?);
        }
        let mut before = self.clone();
        before.groups = before.groups.map(|mut group| {
            let room = &group.room;
            let in_1 = |item| departed_in_1(room, item_in_1(item));
            group.items = group.items.map(in_1);
            group
        });
        Ok(postcard::to_extend(&before, out)?)
    }
}

impl Versioned for Events {
    const FORMAT: Format = DOOR;

    fn write(&self, version: u8, out: Vec<u8>) -> Result<Vec<u8>, Unwritten> {
        let may_differ = |item: &DoorItem| {
            matches!(
                item,
                DoorItem::Verdict { .. }
                    | DoorItem::Note {
                        note: Note::Missed { .. },
                        ..
                    }
            )
        };
        if version > 1 || !self.items.iter().any(may_differ) {
            return Ok(postcard::to_extend(self, out)?);
        }
        let items = self.items.clone().map(|item| match item {
            DoorItem::Verdict { room, run } => DoorItem::Verdict {
                room,
                run: verdict_in_1(run),
            },
            // Numbers have no gap, so something must be said: this does no harm.
            DoorItem::Note {
                seq,
                note: Note::Missed { .. },
            } => DoorItem::Note {
                seq,
                note: Note::LowStock { left: 0 },
            },
            DoorItem::Room { .. }
            | DoorItem::Gap { .. }
            | DoorItem::Inbox { .. }
            | DoorItem::Note { .. } => item,
        });
        Ok(postcard::to_extend(&Self { items }, out)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event::{ClientSeq, SubmitSeq};

    #[test]
    fn version_1_is_told_what_it_has_a_word_for() {
        for (reason, said) in [
            (SubmitRefused::NoVoice, SubmitRefused::NotAuthorized),
            (SubmitRefused::Duplicate, SubmitRefused::Malformed),
            (SubmitRefused::Ended, SubmitRefused::Ended),
        ] {
            let run = VerdictRun {
                first: ClientSeq(1),
                count: 2,
                verdict: Verdict::Refused(reason),
            };
            assert_eq!(verdict_in_1(run).verdict, Verdict::Refused(said));
            let submit_seq = SubmitSeq(3);
            let item = item_in_1(Item::Refused { submit_seq, reason });
            let told = Item::Refused {
                submit_seq,
                reason: said,
            };
            assert_eq!(item, told);
        }
    }
}

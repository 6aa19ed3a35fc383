//! What version 1 had no word of its own for: a message that the room took before, a notice that found no place, a client
//! that departed, and consent between users.

use crate::{
    ids::{ClientUri, RoomUri, UserUri},
    room::follower::Deliver,
    wire::{
        Payload, Unwritten, Versioned,
        consent::ConsentEntry,
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
        Item::Departed { .. } | Item::Consent(_) => true,
        Item::Event(_) | Item::Refilled { .. } => false,
    }
}

fn item_in_1(item: Item) -> Item {
    match item {
        Item::Refused { submit_seq, reason } => Item::Refused {
            submit_seq,
            reason: said_in_1(reason).unwrap_or(reason),
        },
        Item::Consent(entry) => nothing_said(&entry),
        Item::Event(_) | Item::Refilled { .. } | Item::Departed { .. } => item,
    }
}

/// A departure for a hub that has no word for it. Numbers have no gap, so something must be said: that the client can be
/// added, to a user of that hub whom nobody has a reason to create.
fn departed_in_1(room: &RoomUri, item: Item) -> Item {
    match item {
        Item::Departed { client, why } => match UserUri::new(room.hub(), NOBODY) {
            Ok(requester) => Item::Refilled { requester, client },
            Err(_) => Item::Departed { client, why },
        },
        Item::Refused { .. } | Item::Event(_) | Item::Refilled { .. } | Item::Consent(_) => item,
    }
}

/// Who no user is called: whatever is told to it is told to nobody.
const NOBODY: &str = "~";

/// What version 1 is told in place of something about consent. Numbers have no gap, so something must be said: a refill for
/// somebody who is not there does no harm.
fn nothing_said(entry: &Payload) -> Item {
    let said = ConsentEntry::read(entry).ok().and_then(|entry| {
        let requester = UserUri::new(entry.receiver().provider(), NOBODY).ok()?;
        let client = ClientUri::new(entry.sender(), NOBODY).ok()?;
        Some(Item::Refilled { requester, client })
    });
    // This provider wrote the entry, and every provider can have a user of that name.
    said.unwrap_or_else(|| Item::Consent(entry.clone()))
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
                        note: Note::Missed { .. }
                            | Note::ConsentAsked { .. }
                            | Note::ConsentSaid { .. }
                            | Note::ConsentsChanged,
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
                note:
                    Note::Missed { .. }
                    | Note::ConsentAsked { .. }
                    | Note::ConsentSaid { .. }
                    | Note::ConsentsChanged,
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
    use crate::wire::{
        BVec,
        consent::{ConsentOp, place},
        event::{ClientSeq, InboxSeq, LinkSeq, SubmitSeq},
        link::FanoutGroup,
    };

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

    #[test]
    fn version_1_is_told_nothing_of_consent_and_misses_no_number() {
        let entry = ConsentEntry {
            op: ConsentOp::Request,
            requester: "mimi://a.example/u/alice".parse().unwrap(),
            target: "mimi://b.example/u/bob".parse().unwrap(),
            room: None,
            key_packages: BVec::default(),
            extensions: Payload::default(),
        };
        let items = BVec::from([Item::Consent(entry.write().into())]);
        let room = place(&entry.target).unwrap();
        let groups = BVec::from([FanoutGroup { room, items }]);
        let first = LinkSeq(7);
        let said = Fanout { first, groups };
        let (read, _) = Fanout::read(1, &said.write(1, Vec::new()).unwrap()).unwrap();
        let told = &read.groups[0].items[0];
        let Item::Refilled { requester, client } = told else {
            panic!("{told:?}")
        };
        assert_eq!(requester.to_string(), "mimi://b.example/u/~");
        assert_eq!(client.provider().as_str(), "a.example");
        assert_eq!(
            Fanout::read(2, &said.write(2, Vec::new()).unwrap())
                .unwrap()
                .0,
            said
        );

        let (seq, note) = (InboxSeq(3), Note::ConsentsChanged);
        let items = BVec::from([DoorItem::Note { seq, note }]);
        let written = Events { items }.write(1, Vec::new()).unwrap();
        let (read, _) = Events::read(1, &written).unwrap();
        let note = Note::LowStock { left: 0 };
        assert_eq!(*read.items, [DoorItem::Note { seq, note }]);
    }
}

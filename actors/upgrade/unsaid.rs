//! What version 1 had no word of its own for: a message that the room took before, a notice that found no place, and consent
//! between users.

use crate::{
    ids::{ClientUri, UserUri},
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

/// What version 1 says.
const SAID: SubmitRefused = SubmitRefused::Malformed;

/// A verdict as version 1 has it.
pub(super) fn verdict_in_1(mut run: VerdictRun) -> VerdictRun {
    if run.verdict == Verdict::Refused(SubmitRefused::Duplicate) {
        run.verdict = Verdict::Refused(SAID);
    }
    run
}

fn is_duplicate(item: &Item) -> bool {
    let reason = match item {
        Item::Refused { reason, .. } => Some(*reason),
        Item::Event(_) | Item::Refilled { .. } | Item::Consent(_) => None,
    };
    reason == Some(SubmitRefused::Duplicate)
}

fn item_in_1(item: Item) -> Item {
    match item {
        Item::Refused {
            submit_seq,
            reason: SubmitRefused::Duplicate,
        } => Item::Refused {
            submit_seq,
            reason: SAID,
        },
        Item::Consent(entry) => nothing_said(&entry),
        Item::Refused { .. } | Item::Event(_) | Item::Refilled { .. } => item,
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

/// Whether version 1 has no word for it.
fn is_otherwise_in_1(item: &Item) -> bool {
    is_duplicate(item) || matches!(item, Item::Consent(_))
}

/// What a hub tells of a room, as an entry of version 1 has it, if that is otherwise.
pub(crate) fn deliver_in_1(deliver: &Deliver) -> Option<Deliver> {
    deliver.items.iter().any(is_duplicate).then(|| Deliver {
        items: deliver.items.clone().map(item_in_1),
    })
}

impl Versioned for Fanout {
    const FORMAT: Format = LINK;

    fn write(&self, version: u8, out: Vec<u8>) -> Result<Vec<u8>, Unwritten> {
        let items = || self.groups.iter().flat_map(|group| group.items.iter());
        if version > 1 || !items().any(is_otherwise_in_1) {
            return Ok(postcard::to_extend(self, out)?);
        }
        let mut before = self.clone();
        before.groups = before.groups.map(|mut group| {
            group.items = group.items.map(item_in_1);
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
        event::{InboxSeq, LinkSeq},
        link::FanoutGroup,
    };

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

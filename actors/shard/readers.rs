//! How far the clients of this provider are with a room of the shard: what all of them have is kept for none of them.
//!
//! What a client has acknowledged is in its user's fold, in another shard. From there it is told now and then, without
//! any promise: a report that is lost keeps events for longer, no more.
//!
//! Source: transport requirements, section 5.

use crate::{
    ids::ClientUri,
    room::outcome::Change,
    wire::event::{Lane, LaneCursor, RoomSeq},
};
use serde::{Deserialize, Serialize};

/// A client that has something of the room to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Reader {
    client: ClientUri,
    /// The last event that is not its to read: it may have been in the room before.
    after: RoomSeq,
    has: LaneCursor,
    /// The last event that is its to read, once that is known.
    upto: Option<RoomSeq>,
    /// The last event that was its to read when it was here before, if it was: a stream of then may still be open.
    before: Option<RoomSeq>,
}

impl Reader {
    /// Whether it needs nothing any more of what ends with this event of this lane.
    fn is_past(&self, last: RoomSeq, lane: Lane) -> bool {
        let has = match lane {
            Lane::Application(_) => self.has.application,
            Lane::Commit(_) | Lane::Proposals => self.has.control,
        };
        last <= has || self.upto.is_some_and(|upto| last > upto)
    }

    /// Its last event is the Commit that removes it, which it has.
    fn is_done(&self) -> bool {
        self.upto.is_some_and(|upto| self.has.control >= upto)
    }
}

/// The readers of one room, by their URI.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Readers(Vec<Reader>);

impl Readers {
    fn place(&self, client: &ClientUri) -> Result<usize, usize> {
        self.0.binary_search_by(|reader| reader.client.cmp(client))
    }

    /// Takes note that a client joined or left.
    pub(super) fn change(&mut self, client: &ClientUri, change: Change) {
        let place = self.place(client);
        let after = match (change, place) {
            (Change::Left { upto }, Ok(place)) => {
                if let Some(reader) = self.0.get_mut(place) {
                    reader.upto = Some(upto);
                }
                return;
            }
            (Change::Left { .. }, Err(_)) => return,
            (Change::Created, _) => RoomSeq(0),
            (Change::Joined { after }, _) => after,
        };
        let reader = Reader {
            client: client.clone(),
            after,
            has: LaneCursor::all(after),
            upto: None,
            before: None,
        };
        match place {
            Ok(place) => {
                if let Some(known) = self.0.get_mut(place) {
                    let before = known.upto;
                    *known = Reader { before, ..reader };
                }
            }
            Err(place) => self.0.insert(place, reader),
        }
    }

    /// Takes note of what a client has acknowledged; of one that does not read the room it means nothing.
    pub(super) fn read(&mut self, client: &ClientUri, has: LaneCursor) {
        if let Ok(place) = self.place(client)
            && let Some(reader) = self.0.get_mut(place)
        {
            reader.has = reader.has.max(has);
        }
    }

    /// Whether nobody needs any more what ends with this event of this lane.
    pub(super) fn all_past(&self, last: RoomSeq, lane: Lane) -> bool {
        let past = |reader: &Reader| reader.is_past(last, lane);
        self.0.iter().all(past)
    }

    /// How far a client is whose stream was given this much, and its last event, if that is known; `None` when it has
    /// nothing to read, or not there: it was removed and added again since, and what came before it has, or it is
    /// forgotten, for its Welcome is all that it needs.
    pub(super) fn stands(
        &self,
        client: &ClientUri,
        given: LaneCursor,
        forgotten: LaneCursor,
    ) -> Option<(LaneCursor, Option<RoomSeq>)> {
        let reader = self
            .place(client)
            .ok()
            .and_then(|place| self.0.get(place))?;
        if given.application >= reader.after && given.control >= reader.after {
            return Some((given.max(reader.has), reader.upto));
        }
        let before = reader.before?;
        let is_kept = given.max(forgotten) == given;
        (is_kept && given.control < before).then_some((given, Some(before)))
    }

    /// Whether [`Self::let_go`] would let somebody go.
    pub(super) fn some_done(&self) -> bool {
        self.0.iter().any(Reader::is_done)
    }

    /// Lets those go who have their last event.
    pub(super) fn let_go(&mut self) {
        self.0.retain(|reader| !reader.is_done());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event::Epoch;

    const MESSAGES: Lane = Lane::Application(Epoch(1));

    fn client(name: &str) -> ClientUri {
        format!("mimi://a.example/d/{name}/phone").parse().unwrap()
    }

    fn past(readers: &Readers, last: u64) -> (bool, bool) {
        let past = |lane| readers.all_past(RoomSeq(last), lane);
        (past(MESSAGES), past(Lane::Proposals))
    }

    #[test]
    fn what_one_reader_lacks_is_needed_and_each_lane_is_counted_apart() {
        let mut readers = Readers::default();
        assert_eq!(past(&readers, 9), (true, true), "nobody reads");
        readers.change(&client("alice"), Change::Created);
        let after = RoomSeq(4);
        readers.change(&client("bob"), Change::Joined { after });
        readers.read(&client("alice"), LaneCursor::all(RoomSeq(9)));
        assert_eq!(past(&readers, 4), (true, true), "before bob came");
        assert_eq!(past(&readers, 5), (false, false));
        let has = |application, control| LaneCursor {
            application: RoomSeq(application),
            control: RoomSeq(control),
        };
        readers.read(&client("bob"), has(0, 7));
        assert_eq!(past(&readers, 7), (false, true));
        readers.read(&client("bob"), has(8, 8));
        // An older report comes late, and somebody's who does not read.
        readers.read(&client("bob"), has(5, 5));
        readers.read(&client("carol"), has(1, 1));
        assert_eq!(
            (past(&readers, 8), past(&readers, 9)),
            ((true, true), (false, false))
        );
    }

    #[test]
    fn who_left_needs_nothing_behind_its_last_event_and_is_let_go_with_it() {
        let mut readers = Readers::default();
        readers.change(&client("bob"), Change::Created);
        let upto = RoomSeq(6);
        readers.change(&client("bob"), Change::Left { upto });
        readers.read(&client("bob"), LaneCursor::all(RoomSeq(5)));
        readers.let_go();
        assert_eq!(past(&readers, 6), (false, false));
        assert_eq!(past(&readers, 7), (true, true), "not its to read");
        let stands = |readers: &Readers, given| {
            let stands = readers.stands(
                &client("bob"),
                LaneCursor::all(RoomSeq(given)),
                LaneCursor::all(RoomSeq(8)),
            );
            stands.map(|(given, upto)| (given.control.0, upto))
        };
        assert_eq!(stands(&readers, 2), Some((5, Some(upto))));
        assert_eq!(stands(&readers, 6), Some((6, Some(upto))));
        readers.read(&client("bob"), LaneCursor::all(RoomSeq(6)));
        readers.let_go();
        assert_eq!((readers.0.len(), past(&readers, 9)), (0, (true, true)));
        readers.change(&client("bob"), Change::Left { upto });
        assert_eq!(stands(&readers, 9), None);
        let after = RoomSeq(8);
        readers.change(&client("bob"), Change::Joined { after });
        assert_eq!(stands(&readers, 7), None, "a stream of before");
        assert_eq!(stands(&readers, 8), Some((8, None)));
        let upto = RoomSeq(10);
        readers.change(&client("bob"), Change::Left { upto });
        let after = RoomSeq(12);
        readers.change(&client("bob"), Change::Joined { after });
        assert_eq!(
            stands(&readers, 8),
            Some((8, Some(upto))),
            "it reads on to its removal"
        );
        assert_eq!(stands(&readers, 7), None, "what is behind it is forgotten");
        assert_eq!(stands(&readers, 10), None, "no further than its removal");
        assert_eq!(stands(&readers, 12), Some((12, None)));
    }
}

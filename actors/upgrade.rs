//! What earlier versions wrote, and how it becomes today's: the one place that knows earlier shapes.
//!
//! | format | version | what was otherwise |
//! | --- | --- | --- |
//! | client door, link, cluster | 1 | each request to a room had a variant of its own, with room and sender inside |
//! | the same | 1 | answers of rooms had three variants that never left a desk |
//! | the same | 1 | claims and requests for a GroupInfo were signed with our ids inside of what the MIMI protocol signs |
//! | client door, cluster | 1 | users were sent commands that the door had made, and were asked about introduction codes alone |
//! | the same | 1 | each refusal had variants of its own for reasons to come again, and named no field |
//! | link | 1 | each shard had lanes of its own, so no frame named its shard |
//! | client door, link | 1 | a message that came before was as malformed as any other, and nobody was without voice |
//! | client door | 1 | a notice that found no place was not told |
//! | fold | 1 | a room did not know again what it took, nor who stood in no list of its policy; an inbox not whose notices it held |
//!
//! A shape here is never changed: it is what lies on disks and what nodes of that version say. Whoever gives a format
//! another version moves the shape that it had into a module here and says in `read` and `write` how the two become each
//! other; `tests/golden` holds the bytes of both.

mod answers;
mod refusals;
mod requests;
mod unsaid;

pub(crate) use unsaid::deliver_in_1;

use crate::{
    room::hub,
    shard_request::{ShardReply, ShardRequest},
    wire::{
        door, link,
        reading::{self, NotRead},
        version::{CLUSTER, DOOR, FOLD, Format, LINK, NotInVersion, Unwritten, Versioned},
    },
};
use serde::{Serialize, de::DeserializeOwned};

/// A value as an earlier version had it.
trait Before<T>: Serialize + DeserializeOwned {
    /// What it is today.
    fn today(self) -> T;

    /// What today's value was then.
    fn of(today: &T) -> Result<Self, NotInVersion>;
}

/// Reads a value that was written as `B`.
fn read<B: Before<T>, T>(body: &[u8]) -> Result<(T, &[u8]), NotRead> {
    let (before, rest): (B, _) = reading::take(body)?;
    Ok((before.today(), rest))
}

/// Writes a value as `B`.
fn write<B: Before<T>, T>(today: &T, out: Vec<u8>) -> Result<Vec<u8>, Unwritten> {
    Ok(postcard::to_extend(&B::of(today)?, out)?)
}

/// Reads and writes a type that had another shape in version 1 of its format.
macro_rules! was_otherwise_in_1 {
    ($format:expr, $today:ty, $before:ty) => {
        impl Versioned for $today {
            const FORMAT: Format = $format;

            fn read(version: u8, body: &[u8]) -> Result<(Self, &[u8]), NotRead> {
                match version {
                    1 => read::<$before, Self>(body),
                    _ => reading::take(body),
                }
            }

            fn is_in(&self, version: u8) -> Result<(), NotInVersion> {
                match version {
                    1 => <$before>::of(self).map(drop),
                    _ => Ok(()),
                }
            }

            fn write(&self, version: u8, out: Vec<u8>) -> Result<Vec<u8>, Unwritten> {
                match version {
                    1 => write::<$before, Self>(self, out),
                    _ => Ok(postcard::to_extend(self, out)?),
                }
            }
        }
    };
}

was_otherwise_in_1!(DOOR, door::Open, requests::DoorOpen);
was_otherwise_in_1!(LINK, link::Open, requests::LinkOpen);
was_otherwise_in_1!(CLUSTER, ShardRequest, requests::NodeAsk);
was_otherwise_in_1!(DOOR, door::Reply, answers::DoorReply);
was_otherwise_in_1!(DOOR, door::Sent, answers::DoorSent);
was_otherwise_in_1!(LINK, link::Reply, answers::LinkReply);
was_otherwise_in_1!(CLUSTER, ShardReply, answers::NodeAnswered);

/// What a room has that version 1 did not know, and who stands in no list of its policy yet, follows the fold.
impl Versioned for hub::Fold {
    const FORMAT: Format = FOLD;

    fn read(version: u8, body: &[u8]) -> Result<(Self, &[u8]), NotRead> {
        let (fold, rest): (Self, _) = reading::take(body)?;
        if version == 1 {
            let (since, entered) = (hub::SinceSecond::default(), hub::Entered::default());
            return Ok((fold.with(since, entered), rest));
        }
        let more = reading::take(rest).map_err(|error| error.after(body, rest));
        more.map(|((since, entered), rest)| (fold.with(since, entered), rest))
    }

    fn is_in(&self, version: u8) -> Result<(), NotInVersion> {
        let what = match (version, self.since_second(), self.entered()) {
            (1, Some(_), _) => "message that is known again, or client that departed",
            (1, None, Some(_)) => "user who stands in no list yet",
            _ => return Ok(()),
        };
        Err(NotInVersion { version, what })
    }

    fn write(&self, version: u8, out: Vec<u8>) -> Result<Vec<u8>, Unwritten> {
        self.is_in(version)?;
        let out = postcard::to_extend(self, out)?;
        if version == 1 {
            return Ok(out);
        }
        let (nothing, nobody) = (hub::SinceSecond::default(), hub::Entered::default());
        let since = self.since_second().unwrap_or(&nothing);
        let entered = self.entered().unwrap_or(&nobody);
        Ok(postcard::to_extend(&(since, entered), out)?)
    }
}

/// In version 1 a lane was of one shard: there the frame stands by itself.
impl<T: Versioned> Versioned for link::OfShard<T> {
    const FORMAT: Format = LINK;

    fn read(version: u8, body: &[u8]) -> Result<(Self, &[u8]), NotRead> {
        match version {
            1 => Err(NotRead {
                field: "shard".to_owned(),
                offset: 0,
                what: "version 1 names no shard",
            }),
            _ => reading::take(body),
        }
    }

    fn write(&self, version: u8, out: Vec<u8>) -> Result<Vec<u8>, Unwritten> {
        match version {
            1 => Err(Unwritten::NotInVersion(NotInVersion {
                version,
                what: "frame of a lane that shards share",
            })),
            _ => Ok(postcard::to_extend(self, out)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        caller::Principal,
        room::verdicts::AskVerdicts,
        user::command::Command,
        wire::{
            BVec,
            event::{ClientSeq, Item, LinkSeq},
            post::{Departed, DepartedWhy},
            user::Request,
        },
    };

    #[test]
    fn a_hub_of_version_1_is_told_of_a_departure_what_does_no_harm() {
        let client: crate::ids::ClientUri = "mimi://a.example/d/alice/phone".parse().unwrap();
        let fanout = |item| link::Fanout {
            first: LinkSeq(7),
            groups: BVec::from([link::FanoutGroup {
                room: "mimi://b.example/r/den".parse().unwrap(),
                items: BVec::from([item]),
            }]),
        };
        let departed = fanout(Item::Departed {
            client: client.clone(),
            why: DepartedWhy::Revoked,
        });
        let requester = "mimi://b.example/u/~".parse().unwrap();
        let instead = fanout(Item::Refilled { requester, client });
        let written = |version, fanout: &link::Fanout| fanout.write(version, Vec::new()).unwrap();
        assert_eq!(written(1, &departed), written(1, &instead));
        assert_ne!(written(2, &departed), written(2, &instead));
    }

    #[test]
    fn what_version_1_has_no_word_for_is_known_before_it_is_written() {
        let asked = AskVerdicts {
            sender: "mimi://a.example/d/alice/phone".parse().unwrap(),
            first: ClientSeq(1),
            count: 1,
            wait_ms: 5,
        };
        let user = || "mimi://a.example/u/alice".parse().unwrap();
        let room = "mimi://b.example/r/den".parse().unwrap();
        for (request, is_in_1) in [
            (ShardRequest::Verdicts(room, asked), false),
            (
                ShardRequest::User(user(), Principal::Operator, Request::Delete),
                true,
            ),
            (ShardRequest::UserLog(user(), Command::Delete), true),
            (
                ShardRequest::Depart(Departed {
                    room: "mimi://a.example/r/den".parse().unwrap(),
                    client: "mimi://a.example/d/alice/phone".parse().unwrap(),
                    why: DepartedWhy::Revoked,
                }),
                false,
            ),
        ] {
            assert_eq!(request.is_in(1).is_ok(), is_in_1, "{request:?}");
            assert_eq!(request.write(1, Vec::new()).is_ok(), is_in_1);
            assert_eq!(request.is_in(2), Ok(()));
        }
    }
}

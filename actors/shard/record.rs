//! From the outcomes of an entry to what follows: events in the index, items on the links, news for clients.

use super::{Derived, names::Taken, place};
use crate::{
    ids::{ClientUri, ProviderId, RoomUri, UserUri},
    link::{
        self, AckRefused, Peer, ReadProgress, Redriven,
        outgoing::{ConsentOwed, Owed},
        submissions::SubmitRun,
    },
    machine::Millis,
    record::Command,
    room::{
        hub,
        outcome::{Outcome, RefusedRun, UserNotice},
    },
    user::{self, outcome as user_outcome},
    wire::{
        consent::{self, ConsentEntry},
        event::VerdictRun,
        post::{Departed, Refilled},
        version::Level,
    },
};

/// What became of one command.
#[derive(Debug)]
pub enum Done {
    /// A room applied it.
    Room(Outcome),
    /// A user applied it.
    User(user_outcome::Outcome),
    /// It is for the links, which have no actor; or its actor is frozen.
    Nothing,
}

/// What clients, and the operator, may want to know.
#[derive(Debug, Default)]
pub struct News {
    /// Rooms with new events.
    pub rooms: Vec<RoomUri>,
    /// Clients whose inbox or memberships changed.
    pub users: Vec<ClientUri>,
    /// Verdicts on messages.
    pub verdicts: Vec<(RoomUri, ClientUri, VerdictRun)>,
    /// Clients for whom something was not stored.
    pub inbox_full: Vec<ClientUri>,
    /// Submissions of other providers that were refused: whose, and how many; a large one counts as several.
    pub refused: Vec<(ProviderId, u32)>,
    /// Acknowledgements of what was never sent.
    pub acks_refused: Vec<AckRefused>,
    /// What each redrive of the entry sent, or gave up, in order.
    pub redriven: Vec<Redriven>,
    /// The level that the shard has from now on, where that was said.
    pub level: Option<Level>,
    /// What became of each name of a group that was to be taken, in order.
    pub names: Vec<Taken>,
}

impl Derived {
    /// Records the outcomes of entry `index`, in log order; `shards` is how many the provider has.
    pub fn record<'a>(
        &mut self,
        index: u64,
        stamp: Millis,
        shards: u16,
        done: impl IntoIterator<Item = (&'a Command, Done)>,
    ) -> News {
        self.time = self.time.after(stamp);
        let time = self.time.last();
        self.applied = index;
        let mut news = News::default();
        for (command, done) in done {
            match (command, done) {
                (Command::Hub(room, command), Done::Room(outcome)) => {
                    self.record_hub(room, &outcome, &mut news);
                    if let hub::Command::Submit(submit) = &**command {
                        let weigh = |run: &RefusedRun| {
                            (run.provider.clone(), submit.weight(run.first, run.count))
                        };
                        news.refused.extend(outcome.refused.iter().map(weigh));
                    }
                    self.record_notices(room, outcome.notices, shards);
                }
                (Command::Follower(room, _), Done::Room(outcome)) => {
                    self.record_follower(room, &outcome, &mut news);
                    self.record_notices(room, outcome.notices, shards);
                }
                (Command::User(user, command), Done::User(outcome)) => {
                    if let (user::command::Command::Claim(claim), Some(packages)) =
                        (&**command, outcome.handed_out)
                    {
                        self.spending.count(time, claim, packages);
                    }
                    self.record_refilled(user, outcome.refilled, shards);
                    self.record_departed(user, outcome.departed, shards);
                    self.record_told(user, outcome.told, shards);
                    news.users.extend(outcome.woken);
                    news.inbox_full.extend(outcome.inbox_full);
                }
                (Command::Link(link::Command::Forget { before }), _) => {
                    self.index.forget(*before, &self.links.owed_from());
                }
                (Command::Link(link::Command::Read { has }), _) => self.record_read(has),
                (Command::Link(link::Command::Redrive { provider, room }), _) => {
                    let items = self.links.redrive(provider, room);
                    news.redriven
                        .push(items.map_or(Redriven::Nothing, Redriven::Items));
                }
                (Command::Link(link::Command::GiveUp { provider }), _) => {
                    let items = self.links.give_up(provider);
                    news.redriven
                        .push(items.map_or(Redriven::Nothing, Redriven::Items));
                }
                (Command::Link(command), _) => {
                    news.acks_refused.extend(self.links.apply(command).err());
                }
                (Command::Level(level), _) => {
                    self.level = self.level.max(*level);
                    news.level = Some(self.level);
                }
                (Command::Name(take), _) => news.names.push(self.names.take(*take)),
                (Command::Hub(..) | Command::Follower(..) | Command::User(..), _) => {}
            }
        }
        news
    }

    fn record_hub(&mut self, room: &RoomUri, outcome: &Outcome, news: &mut News) {
        for emission in &outcome.emitted {
            self.index.push(room, emission);
            for recipient in &emission.recipients {
                let owed = Owed::Events {
                    room: room.clone(),
                    first: emission.first,
                    copy: recipient.copy.clone(),
                };
                let peer = Peer::Provider(recipient.provider.clone());
                self.links.to(&peer).push(owed, emission.count);
            }
        }
        if !outcome.emitted.is_empty() {
            news.rooms.push(room.clone());
        }
        for refused in &outcome.refused {
            let owed = Owed::Refused {
                room: room.clone(),
                first: refused.first,
                reason: refused.reason,
            };
            let peer = Peer::Provider(refused.provider.clone());
            self.links.to(&peer).push(owed, refused.count);
        }
    }

    fn record_follower(&mut self, room: &RoomUri, outcome: &Outcome, news: &mut News) {
        for emission in &outcome.emitted {
            self.index.push(room, emission);
        }
        if !outcome.emitted.is_empty() {
            news.rooms.push(room.clone());
        }
        if let Some(queued) = &outcome.queued {
            self.links.submissions_to(room.hub()).push(SubmitRun {
                room: room.clone(),
                sender: queued.sender.clone(),
                first: queued.first,
                count: queued.count,
                at: queued.at,
                item: queued.item,
            });
        }
        if let Some(undecided) = outcome.undecided {
            self.links
                .submissions_to(room.hub())
                .settle(room, undecided);
        }
        for decided in &outcome.decided {
            let verdict = (room.clone(), decided.sender.clone(), decided.run);
            news.verdicts.push(verdict);
        }
    }

    /// Whoever has a pending add of a client of `user` is told that it can be had, at home or at its provider.
    fn record_refilled(&mut self, user: &UserUri, refilled: Vec<Refilled>, shards: u16) {
        for refilled in refilled {
            let requester = &refilled.requester;
            let peer = if requester.provider() == user.provider() {
                Peer::Shard(place(&requester.to_string(), shards))
            } else {
                Peer::Provider(requester.provider().clone())
            };
            self.links.to(&peer).push(Owed::Refilled(refilled), 1);
        }
    }

    /// The hub of each room that a client of `user` was in is told that it is none any more, at home or at its provider.
    fn record_departed(&mut self, user: &UserUri, departed: Vec<Departed>, shards: u16) {
        for departed in departed {
            let hub = departed.room.hub();
            let peer = if hub == user.provider() {
                Peer::Shard(place(&departed.room.to_string(), shards))
            } else {
                Peer::Provider(hub.clone())
            };
            self.links.to(&peer).push(Owed::Departed(departed), 1);
        }
    }

    /// What `user` says to others about consent is owed to them, at home or at their provider.
    fn record_told(&mut self, user: &UserUri, told: Vec<ConsentEntry>, shards: u16) {
        for entry in told {
            let receiver = entry.receiver();
            let peer = if receiver.provider() == user.provider() {
                Peer::Shard(place(&receiver.to_string(), shards))
            } else {
                Peer::Provider(receiver.provider().clone())
            };
            // Whatever may be the name of a user may be that of a room.
            if let Some(place) = consent::place(receiver) {
                let owed = Owed::Consent(ConsentOwed { place, entry });
                self.links.to(&peer).push(owed, 1);
            }
        }
    }

    /// What everybody has now is forgotten.
    fn record_read(&mut self, has: &[ReadProgress]) {
        for ReadProgress {
            room,
            client,
            given,
        } in has
        {
            self.index.read(room, client, *given);
        }
        let owed = self.links.owed_from();
        let mut rooms = has.iter().map(|has| &has.room).collect::<Vec<_>>();
        rooms.dedup();
        for room in rooms {
            self.index.forget_read(room, owed.get(room).copied());
        }
    }

    /// Notices go to the users' shards, over a link of their own; whose clients read the room is known here too.
    fn record_notices(&mut self, room: &RoomUri, notices: Vec<UserNotice>, shards: u16) {
        for notice in notices {
            for client in &notice.clients {
                self.index.change(room, client, notice.change);
            }
            let peer = Peer::Shard(place(&notice.user.to_string(), shards));
            let room = room.clone();
            self.links.to(&peer).push(Owed::Notice { room, notice }, 1);
        }
    }
}

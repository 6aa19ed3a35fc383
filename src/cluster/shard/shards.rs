//! All shards of the node, and how the doors ask their actors.

use super::{Shard, Unreachable};
use crate::{
    cluster::{
        mesh::{Answering, Mesh},
        raft::lead::Lead,
    },
    perform::{self, AnsweredFrom, Environment, answers::Answers},
};
use futures::future::BoxFuture;
use mimi_actors::{
    ask::{Answered, Ask},
    caller::Caller,
    ids::{ClientUri, ProviderId, RoomUri, UserUri},
    limits::READS_TOLD_MAX,
    link::{self, ReadProgress, Redriven},
    machine::Ticket,
    record::Command,
    room::{desk, follower, follower_desk, hub, outcome},
    user::{command as user_command, desk as user_desk, outcome as user_outcome},
    wire::{BVec, event::Hash, refusal::TryLater, room, version::Level},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::{oneshot, watch};

/// The shards of this node.
#[derive(Clone)]
pub(crate) struct Shards {
    all: Arc<[Arc<Shard>]>,
    environment: Arc<Environment>,
    /// The way to the other nodes, where there are any.
    mesh: Option<Arc<Mesh>>,
}

/// Why no answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unanswered {
    /// Nobody that this node can ask leads the shard: nothing was done.
    #[error("shard {shard} has no leader that can be asked")]
    NoLeader {
        /// The shard.
        shard: u16,
    },
    /// Whoever led the shard leads no longer, or could not answer. Whether it was done is not known.
    #[error("the leader changed before it answered")]
    Lost,
    /// The deadline is over. Whether it was done is not known.
    #[error("no answer within {waited_ms} ms")]
    Late {
        /// How long it was waited for, in milliseconds.
        waited_ms: u64,
    },
    /// The actor on this node cannot be reached; the log says why. Nothing was done.
    #[error("the actor cannot be reached")]
    Unreachable,
}

impl Unanswered {
    /// The deadline was this.
    fn late(deadline: Duration) -> Self {
        let waited_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        Self::Late { waited_ms }
    }

    /// Whether the request may have been done all the same.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Lost | Self::Late { .. })
    }
}

/// A request that is under way.
pub(crate) struct Pending<A> {
    way: Way<A>,
}

enum Way<A> {
    /// Here: where the answer comes, and how to give it up.
    Here {
        answer: oneshot::Receiver<A>,
        give_up: Box<dyn FnOnce() + Send>,
    },
    /// At the node that led when it was asked: what it answers, what of that is meant, and who leads now.
    There {
        answer: oneshot::Receiver<Answered>,
        read: fn(Answered) -> Option<A>,
        lead: watch::Receiver<Lead>,
        asked: Lead,
    },
}

impl<A> Pending<A> {
    /// Waits for the answer, as long as requests may wait.
    async fn wait(self, deadline: Duration) -> Result<A, Unanswered> {
        match self.way {
            Way::Here { answer, give_up } => {
                let answer = tokio::time::timeout(deadline, answer).await;
                if answer.is_err() {
                    give_up();
                }
                let answer = answer.map_err(|_| Unanswered::late(deadline))?;
                answer.map_err(|_| Unanswered::Lost)
            }
            Way::There {
                answer,
                read,
                mut lead,
                asked,
            } => {
                let answered = async {
                    tokio::select! {
                        biased;
                        answer = answer => answer.ok(),
                        // Who leads no longer may never answer; nobody knows what became of it.
                        _ = lead.wait_for(|lead| *lead != asked) => None,
                    }
                };
                let answer = tokio::time::timeout(deadline, answered).await;
                let answer = answer.map_err(|_| Unanswered::late(deadline))?;
                answer.and_then(read).ok_or(Unanswered::Lost)
            }
        }
    }
}

fn room_of(answered: Answered) -> Option<outcome::Answer> {
    match answered {
        Answered::Room(answer) => Some(answer),
        Answered::User(_)
        | Answered::DeviceKey(_)
        | Answered::Knows(_)
        | Answered::Done
        | Answered::Nobody
        | Answered::Redriven(_) => None,
    }
}

fn user_of(answered: Answered) -> Option<user_outcome::Answer> {
    match answered {
        Answered::User(answer) => Some(answer),
        Answered::Room(_)
        | Answered::DeviceKey(_)
        | Answered::Knows(_)
        | Answered::Done
        | Answered::Nobody
        | Answered::Redriven(_) => None,
    }
}

fn key_of(answered: Answered) -> Option<Option<[u8; 32]>> {
    match answered {
        Answered::DeviceKey(key) => Some(key),
        Answered::Room(_)
        | Answered::User(_)
        | Answered::Knows(_)
        | Answered::Done
        | Answered::Nobody
        | Answered::Redriven(_) => None,
    }
}

fn knows_of(answered: Answered) -> Option<bool> {
    match answered {
        Answered::Knows(knows) => Some(knows),
        Answered::Room(_)
        | Answered::User(_)
        | Answered::DeviceKey(_)
        | Answered::Done
        | Answered::Nobody
        | Answered::Redriven(_) => None,
    }
}

fn redriven_of(answered: Answered) -> Option<Redriven> {
    match answered {
        Answered::Redriven(redriven) => Some(redriven),
        Answered::Room(_)
        | Answered::User(_)
        | Answered::DeviceKey(_)
        | Answered::Knows(_)
        | Answered::Done
        | Answered::Nobody => None,
    }
}

fn done_of(answered: Answered) -> Option<()> {
    match answered {
        Answered::Done => Some(()),
        Answered::Room(_)
        | Answered::User(_)
        | Answered::DeviceKey(_)
        | Answered::Knows(_)
        | Answered::Nobody
        | Answered::Redriven(_) => None,
    }
}

impl Shards {
    pub(crate) fn new(
        all: Vec<Arc<Shard>>,
        environment: Arc<Environment>,
        mesh: Option<Arc<Mesh>>,
    ) -> Self {
        Self {
            all: all.into(),
            environment,
            mesh,
        }
    }

    /// What orders are carried out with.
    pub(crate) fn environment(&self) -> &Arc<Environment> {
        &self.environment
    }

    /// All shards.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Shard>> {
        self.all.iter()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u16 {
        self.environment.shards
    }

    /// The shard that a room or user belongs to, by its URI.
    fn place(&self, uri: &str) -> u16 {
        mimi_actors::shard::place(uri, self.count())
    }

    /// A shard by its number.
    pub(crate) fn get(&self, shard: u16) -> Option<&Arc<Shard>> {
        self.all.get(usize::from(shard))
    }

    /// The shard of a room.
    pub(crate) fn of_room(&self, room: &RoomUri) -> Result<&Arc<Shard>, Unanswered> {
        self.get(self.place(&room.to_string()))
            .ok_or(Unanswered::Unreachable)
    }

    /// The shard of a user.
    pub(crate) fn of_user(&self, user: &UserUri) -> Result<&Arc<Shard>, Unanswered> {
        self.get(self.place(&user.to_string()))
            .ok_or(Unanswered::Unreachable)
    }

    /// How long an actor may keep a request waiting, so that it is answered in time; in milliseconds.
    fn wait_ms_max(&self) -> u32 {
        let fifths = self.environment.request_deadline / 5 * 4;
        u32::try_from(fifths.as_millis()).unwrap_or(u32::MAX)
    }

    /// Passes a request on to the node that leads its shard.
    fn pass_on<A>(
        &self,
        shard: &Shard,
        ask: Ask,
        read: fn(Answered) -> Option<A>,
    ) -> Result<Pending<A>, Unanswered> {
        let lead = shard.lead.subscribe();
        let asked = *lead.borrow();
        let nobody = Unanswered::NoLeader { shard: shard.id };
        let (Lead::At(node), Some(mesh)) = (asked, &self.mesh) else {
            return Err(nobody);
        };
        let answer = mesh.forward(node, shard.id, ask).map_err(|_| nobody)?;
        Ok(Pending {
            way: Way::There {
                answer,
                read,
                lead,
                asked,
            },
        })
    }

    /// Puts a request to a room at this hub on its way; requests to one room keep their order.
    async fn begin_room(
        &self,
        room: &RoomUri,
        caller: Caller,
        request: room::Request,
    ) -> Result<Pending<outcome::Answer>, Unanswered> {
        let request = request.waiting_at_most(self.wait_ms_max());
        let shard = self.of_room(room)?;
        if !shard.leads() {
            let ask = Ask::Room(room.clone(), caller, request);
            return self.pass_on(shard, ask, room_of);
        }
        let (ticket, answer) = shard.rooms.open();
        let input = desk::Input::Ask {
            ticket,
            caller,
            request,
        };
        to_hub(shard, room, input, ticket, answer).await
    }

    /// Puts application messages for a room at this hub on their way; those to one room keep their order.
    pub(crate) async fn begin_submit(
        &self,
        room: &RoomUri,
        submit: hub::Submit,
    ) -> Result<Pending<outcome::Answer>, Unanswered> {
        let shard = self.of_room(room)?;
        if !shard.leads() {
            return self.pass_on(shard, Ask::Submit(room.clone(), submit), room_of);
        }
        let (ticket, answer) = shard.rooms.open();
        let input = desk::Input::Submit { ticket, submit };
        to_hub(shard, room, input, ticket, answer).await
    }

    /// Puts a request to a followed room on its way; requests to one room keep their order.
    pub(crate) async fn begin_follower(
        &self,
        room: &RoomUri,
        command: follower::Command,
    ) -> Result<Pending<outcome::Answer>, Unanswered> {
        let shard = self.of_room(room)?;
        if !shard.leads() {
            return self.pass_on(shard, Ask::Follower(room.clone(), command), room_of);
        }
        let (ticket, answer) = shard.rooms.open();
        let input = follower_desk::Input::asked(ticket, command);
        let sent = match shard.follower(room).await {
            Ok(actor) => actor.send(input).await.map_err(Unreachable::from),
            Err(error) => Err(error.into()),
        };
        begun(shard, sent, ticket, answer, |shard| &shard.rooms)
    }

    /// Waits for the answer of a room.
    pub(crate) async fn room_answer(
        &self,
        pending: Pending<outcome::Answer>,
    ) -> Result<outcome::Answer, Unanswered> {
        pending.wait(self.environment.request_deadline).await
    }

    /// Asks a room at this hub; no answer in time is a refusal that says when to try again.
    pub(crate) async fn ask_room(
        &self,
        room: &RoomUri,
        caller: Caller,
        request: room::Request,
    ) -> outcome::Answer {
        let asked = async {
            let begun = self.begin_room(room, caller, request).await?;
            self.room_answer(begun).await
        };
        asked.await.unwrap_or_else(|_: Unanswered| {
            outcome::Answer::Refused(outcome::Refused::TryLater(TryLater::UNANSWERED))
        })
    }

    /// Puts a command to a user on its way; commands to one user keep their order.
    pub(crate) async fn begin_user(
        &self,
        user: &UserUri,
        mut command: user_command::Command,
    ) -> Result<Pending<user_outcome::Answer>, Unanswered> {
        let shard = self.of_user(user)?;
        if !shard.leads() {
            return self.pass_on(shard, Ask::User(user.clone(), command), user_of);
        }
        if let user_command::Command::Claim(claim) = &mut command {
            let derived = shard.looked_at();
            let time = derived.time.at((self.environment.clock)());
            claim.over_ms = derived.spending.wait_ms(time, claim);
        }
        let (ticket, answer) = shard.users_waiting.open();
        let command = Arc::new(command);
        let sent = match shard.user(user).await {
            Ok(actor) => actor
                .send(user_desk::Input::Ask { ticket, command })
                .await
                .map_err(Unreachable::from),
            Err(error) => Err(error.into()),
        };
        begun(shard, sent, ticket, answer, |shard| &shard.users_waiting)
    }

    /// Waits for the answer of a user.
    pub(crate) async fn user_answer(
        &self,
        pending: Pending<user_outcome::Answer>,
    ) -> Result<user_outcome::Answer, Unanswered> {
        pending.wait(self.environment.request_deadline).await
    }

    /// Asks a user's actor.
    pub(crate) async fn ask_user(
        &self,
        user: &UserUri,
        command: user_command::Command,
    ) -> Result<user_outcome::Answer, Unanswered> {
        self.user_answer(self.begin_user(user, command).await?)
            .await
    }

    /// The key of a device, as of now: not what a node that lags behind thinks it is.
    pub(crate) async fn device_key(
        &self,
        client: &ClientUri,
    ) -> Result<Option<[u8; 32]>, Unanswered> {
        let pending = self.begin_device_key(client).await?;
        pending.wait(self.environment.request_deadline).await
    }

    async fn begin_device_key(
        &self,
        client: &ClientUri,
    ) -> Result<Pending<Option<[u8; 32]>>, Unanswered> {
        let shard = self.of_user(client.user())?;
        if !shard.leads() {
            return self.pass_on(shard, Ask::DeviceKey(client.clone()), key_of);
        }
        let actor = shard
            .user(client.user())
            .await
            .map_err(|_| Unanswered::Unreachable)?;
        let device = client.clone();
        let key = actor.look(move |fold| fold.device_key(&device)).await;
        let key = key.map_err(|_| Unanswered::Unreachable)?;
        Ok(looked(shard, key))
    }

    /// Whether a room at this hub has, or had, members of a provider, as of now.
    pub(crate) async fn knows(
        &self,
        room: &RoomUri,
        provider: &ProviderId,
    ) -> Result<bool, Unanswered> {
        let pending = self.begin_knows(room, provider).await?;
        pending.wait(self.environment.request_deadline).await
    }

    async fn begin_knows(
        &self,
        room: &RoomUri,
        provider: &ProviderId,
    ) -> Result<Pending<bool>, Unanswered> {
        let shard = self.of_room(room)?;
        if !shard.leads() {
            let ask = Ask::Knows(room.clone(), provider.clone());
            return self.pass_on(shard, ask, knows_of);
        }
        let actor = shard.hub(room).await.map_err(|_| Unanswered::Unreachable)?;
        let provider = provider.clone();
        let knows = actor
            .look(move |fold| {
                fold.room()
                    .is_some_and(|room| room.ever_had_member_of(&provider))
            })
            .await
            .map_err(|_| Unanswered::Unreachable)?;
        Ok(looked(shard, knows))
    }

    /// Has what waits of a room that a provider refused sent again, wherever the room's shard is led; says what the log
    /// made of it.
    pub(crate) async fn redrive(
        &self,
        room: &RoomUri,
        provider: &ProviderId,
    ) -> Result<Redriven, Unanswered> {
        let pending = self.begin_redrive(room, provider)?;
        pending.wait(self.environment.request_deadline).await
    }

    fn begin_redrive(
        &self,
        room: &RoomUri,
        provider: &ProviderId,
    ) -> Result<Pending<Redriven>, Unanswered> {
        let shard = self.of_room(room)?;
        if !shard.leads() {
            let ask = Ask::Redrive(room.clone(), provider.clone());
            return self.pass_on(shard, ask, redriven_of);
        }
        let redrive = link::Command::Redrive {
            provider: provider.clone(),
            room: room.clone(),
        };
        let (ticket, answer) = shard.redriving.open();
        if let Err(refused) = shard.queue(Command::Link(redrive), Some(ticket)) {
            shard
                .redriving
                .give(ticket, perform::link::not_queued(refused));
        }
        begun(shard, Ok(()), ticket, answer, |shard| &shard.redriving)
    }

    /// Tells a shard of rooms what clients have acknowledged of them, wherever it is led; returns when that is on its way
    /// into the log.
    pub(crate) async fn tell_read(
        &self,
        shard: &Shard,
        has: BVec<ReadProgress, READS_TOLD_MAX>,
    ) -> Result<(), Unanswered> {
        let pending = self.begin_read(shard, has).await?;
        pending.wait(self.environment.request_deadline).await
    }

    async fn begin_read(
        &self,
        shard: &Shard,
        has: BVec<ReadProgress, READS_TOLD_MAX>,
    ) -> Result<Pending<()>, Unanswered> {
        if !shard.leads() {
            return self.pass_on(shard, Ask::Read(has), done_of);
        }
        queued_own(shard, link::Command::Read { has }).await
    }

    /// Asks an actor of a shard that this node leads, for another node that does not. What is returned waits for the
    /// answer.
    pub(crate) async fn asked(&self, ask: Ask) -> impl Future<Output = Answered> + use<> {
        let deadline = self.environment.request_deadline;
        let shard = self.place(&ask.whose());
        let led = self.get(shard).is_some_and(|shard| shard.leads());
        let begun = match ask {
            // Passed on once only: who leads may be gone by the time a circle is closed.
            _ if !led => Err(Unanswered::NoLeader { shard }),
            Ask::Room(room, caller, request) => {
                let begun = self.begin_room(&room, caller, request);
                begun.await.map(Asked::Room)
            }
            Ask::Submit(room, submit) => self.begin_submit(&room, submit).await.map(Asked::Room),
            Ask::Follower(room, command) => {
                self.begin_follower(&room, command).await.map(Asked::Room)
            }
            Ask::User(user, command) => self.begin_user(&user, command).await.map(Asked::User),
            Ask::DeviceKey(client) => self.begin_device_key(&client).await.map(Asked::Key),
            Ask::Knows(room, provider) => {
                let knows = self.begin_knows(&room, &provider).await;
                knows.map(Asked::Knows)
            }
            Ask::Redrive(room, provider) => {
                let redriven = self.begin_redrive(&room, &provider);
                redriven.map(Asked::Redriven)
            }
            Ask::Read(has) => match has.first().map(|has| self.of_room(&has.room)) {
                Some(Ok(shard)) => self.begin_read(shard, has).await.map(Asked::Done),
                Some(Err(_)) | None => Err(Unanswered::Unreachable),
            },
        };
        async move {
            let answered = match begun {
                Ok(Asked::Room(pending)) => pending.wait(deadline).await.map(Answered::Room),
                Ok(Asked::User(pending)) => pending.wait(deadline).await.map(Answered::User),
                Ok(Asked::Key(pending)) => pending.wait(deadline).await.map(Answered::DeviceKey),
                Ok(Asked::Knows(pending)) => pending.wait(deadline).await.map(Answered::Knows),
                Ok(Asked::Redriven(pending)) => {
                    pending.wait(deadline).await.map(Answered::Redriven)
                }
                Ok(Asked::Done(pending)) => pending.wait(deadline).await.map(|()| Answered::Done),
                Err(unanswered) => Err(unanswered),
            };
            answered.unwrap_or(Answered::Nobody)
        }
    }

    /// One hash for each shard over everything it has folded: equal logs give equal hashes.
    pub(crate) async fn state_hashes(&self) -> Vec<(u64, Hash)> {
        let mut hashes = Vec::with_capacity(self.all.len());
        for shard in self.iter() {
            let mut parts: Vec<Vec<u8>> = Vec::new();
            let mut add = |key: String, compact: Vec<u8>| parts.extend([key.into_bytes(), compact]);
            for (room, compact) in shard.hubs.lock().await.compact().await {
                add(format!("hub {room}"), compact);
            }
            for (room, compact) in shard.followers.lock().await.compact().await {
                add(format!("follower {room}"), compact);
            }
            for (user, compact) in shard.users.lock().await.compact().await {
                add(format!("user {user}"), compact);
            }
            let derived = shard.looked_at();
            parts.push(derived.links.compact());
            let hash = Hash::of_parts(parts.iter().map(Vec::as_slice));
            hashes.push((derived.applied, hash));
        }
        hashes
    }

    /// Actors awake and asleep, over all shards.
    pub(crate) async fn counts(&self) -> (usize, usize) {
        let (mut awake, mut asleep) = (0, 0);
        for shard in self.iter() {
            let counts = [
                shard.hubs.lock().await.counts(),
                shard.followers.lock().await.counts(),
                shard.users.lock().await.counts(),
            ];
            for (up, down) in counts {
                awake += up;
                asleep += down;
            }
        }
        (awake, asleep)
    }
}

/// A request of another node on its way.
enum Asked {
    Room(Pending<outcome::Answer>),
    User(Pending<user_outcome::Answer>),
    Key(Pending<Option<[u8; 32]>>),
    Knows(Pending<bool>),
    Done(Pending<()>),
    Redriven(Pending<Redriven>),
}

/// A command without a ticket, on its way into the log of a shard that this node leads.
async fn queued_own(shard: &Shard, command: link::Command) -> Result<Pending<()>, Unanswered> {
    let (give, answer) = oneshot::channel();
    let queued = shard.queue_own(Command::Link(command)).await;
    queued.map_err(|_| Unanswered::NoLeader { shard: shard.id })?;
    let _ = give.send(());
    let give_up = Box::new(|| {});
    Ok(Pending {
        way: Way::Here { answer, give_up },
    })
}

/// The answer that a look at an actor gave, once it is confirmed that this node still leads.
fn looked<A: Send + 'static>(shard: &Arc<Shard>, answer: A) -> Pending<A> {
    let (give, take) = oneshot::channel();
    // Whoever asked may have stopped waiting.
    shard.answer(AnsweredFrom::Memory, move |_| {
        let _ = give.send(answer);
    });
    Pending {
        way: Way::Here {
            answer: take,
            give_up: Box::new(|| {}),
        },
    }
}

/// Hands something to the actor of a room at this hub.
async fn to_hub(
    shard: &Arc<Shard>,
    room: &RoomUri,
    input: desk::Input,
    ticket: Ticket,
    answer: oneshot::Receiver<outcome::Answer>,
) -> Result<Pending<outcome::Answer>, Unanswered> {
    let sent = match shard.hub(room).await {
        Ok(actor) => actor.send(input).await.map_err(Unreachable::from),
        Err(error) => Err(error.into()),
    };
    begun(shard, sent, ticket, answer, |shard| &shard.rooms)
}

/// A request that an actor of this node has, or the ticket given up.
fn begun<A: Send + 'static>(
    shard: &Arc<Shard>,
    sent: Result<(), Unreachable>,
    ticket: Ticket,
    answer: oneshot::Receiver<A>,
    waiting: fn(&Shard) -> &Answers<A>,
) -> Result<Pending<A>, Unanswered> {
    if let Err(error) = sent {
        tracing::error!(shard = shard.id, %error, "an actor cannot be reached");
        waiting(shard).forget(ticket);
        return Err(Unanswered::Unreachable);
    }
    let shard = Arc::clone(shard);
    let give_up = Box::new(move || waiting(&shard).forget(ticket));
    Ok(Pending {
        way: Way::Here { answer, give_up },
    })
}

impl Answering for Shards {
    fn asked(&self, ask: Ask) -> BoxFuture<'_, BoxFuture<'static, Answered>> {
        Box::pin(async move { Box::pin(Self::asked(self, ask).await) as BoxFuture<'static, _> })
    }

    fn level(&self) -> Level {
        let levels = self.iter().map(|shard| shard.level());
        levels.max().unwrap_or_default()
    }
}

//! One shard of the provider's rooms and users: its actors, its queue in front of the log, and what follows from it.
//!
//! Owns: the directories of actors, the event index, the links' cursors. Promises: commands that wait go into the log
//! together; outcomes are recorded before anybody is answered; time never goes back. Not here: the log itself
//! (`group`), what an order means (`perform`), what is sent when (`peering`, `gateway`).

pub(crate) mod actors;
pub(crate) mod apply;
pub(crate) mod directory;
pub(crate) mod full_disk;
pub(crate) mod leader_balance;
pub(crate) mod level;
mod packed;
pub(crate) mod placement;
pub(crate) mod scrub;
pub(crate) mod shards;

use super::{
    feeds::{client_acks::ClientAcks, watchers::Watchers},
    log::{
        batch::{Batch, DecodeError},
        decoded::{self, Decoded},
        entries::Entries,
    },
    raft::{
        confirm::Confirming,
        lead::{Lead, lost},
    },
};
use crate::perform::{self, AnsweredFrom, Environment, Performed, answers::Answers};
use actors::{Actors, Kept};
use directory::{Awake, Directory, Seen, WakeError};
use mimi_actors::{
    host::{Clock, Gone, InPassing, Perform, in_passing},
    kind::NotAppended,
    limits::{ENTRY_COMMANDS_MAX, SHARD_QUEUE_COMMANDS_MAX},
    machine::{Millis, Ticket},
    record::{Command, Gathered},
    room::{desk, follower_desk},
    shard::Derived,
    shard_request::ShardReply,
    user::desk as user_desk,
    wire::{answer::Answer, refusal::TryLater, version::Level},
};
use ractor::ActorCell;
use std::{
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Mutex, mpsc, watch};

/// How long an entry that begins with a Welcome waits for more: notices of one Commit for several users follow one another,
/// and their Welcome lies in an entry once.
const WELCOMES_FOLLOW: Duration = Duration::from_millis(3);
/// When what a shard's own sessions recorded is tried again that was refused for want of room.
const OWN_AGAIN: Duration = Duration::from_millis(500);
/// Rooms that are folded while nobody else may look at what follows from the log.
const FOLDS_MAX: usize = 256;

/// An actor cannot be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreachable {
    /// It cannot be woken.
    #[error(transparent)]
    Wake(#[from] WakeError),
    /// It ended in this moment.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// The entry for it does not read.
    #[error(transparent)]
    Entry(#[from] DecodeError),
}

/// A command that waits for the log, and who waits for it.
struct Queued {
    command: Command,
    ticket: Option<Ticket>,
}

/// One shard on this node.
pub(crate) struct Shard {
    pub(crate) id: u16,
    environment: Arc<Environment>,
    pub(crate) actors: Actors,
    pub(crate) derived: RwLock<Derived>,
    pub(crate) entries: Entries,
    pub(crate) watchers: Watchers,
    pub(crate) reads: ClientAcks,
    queue: mpsc::Sender<Queued>,
    /// The last entry applied: link sessions wait on it.
    pub(crate) applied: watch::Sender<u64>,
    /// Who waits for an answer.
    pub(crate) waiting: Answers<ShardReply>,
    /// Who leads.
    pub(crate) lead: watch::Sender<Lead>,
    /// Counts the times that this node began to lead or ceased to.
    leadership: AtomicU64,
    /// Answers from memory that wait for a confirmation; none are held back where this node alone votes.
    pub(crate) confirming: Option<Confirming>,
}

/// The receiving end of a shard's queue, for [`gather`].
pub(crate) struct Gathering(mpsc::Receiver<Queued>);

impl Shard {
    /// A shard without any state; the log's replay fills it.
    pub(crate) fn new(
        id: u16,
        environment: Arc<Environment>,
        entries: Entries,
        supervisor: &ActorCell,
        alone: bool,
    ) -> (Arc<Self>, Gathering) {
        let (queue, waiting) = mpsc::channel(SHARD_QUEUE_COMMANDS_MAX);
        let shard = Arc::new_cyclic(|shard: &Weak<Self>| {
            let (of, own) = (shard.clone(), environment.clock.clone());
            // Desks compare with what their folds say, so their time is the shard's.
            let clock: Clock = Arc::new(move || {
                let own = own();
                of.upgrade()
                    .map_or(own, |shard| shard.looked_at().time.at(own))
            });
            Self {
                id,
                actors: Actors {
                    hubs: nobody(shard, &clock, supervisor, &environment.awake),
                    followers: nobody(shard, &clock, supervisor, &environment.awake),
                    users: nobody(shard, &clock, supervisor, &environment.awake),
                },
                environment,
                derived: RwLock::default(),
                entries,
                watchers: Watchers::default(),
                reads: ClientAcks::default(),
                queue,
                applied: watch::Sender::new(0),
                waiting: Answers::default(),
                lead: watch::Sender::new(Lead::Nobody),
                // The tickets of entries that were read from the log are of leadership 0.
                leadership: AtomicU64::new(1),
                confirming: (!alone).then(Confirming::default),
            }
        });
        (shard, Gathering(waiting))
    }

    /// What orders are carried out with.
    pub(crate) fn environment(&self) -> &Arc<Environment> {
        &self.environment
    }

    /// What the time would be for an entry that this node stamps now.
    pub(crate) fn time(&self) -> Millis {
        self.looked_at().time.at((self.environment.clock)())
    }

    /// Whether this node leads.
    pub(crate) fn leads(&self) -> bool {
        *self.lead.borrow() == Lead::Here
    }

    /// The number of this leadership.
    pub(crate) fn leadership(&self) -> u64 {
        self.leadership.load(Ordering::SeqCst)
    }

    /// Takes note of who leads. A node that ceases to gives up whatever only a leader has: what waits is told that no
    /// answer will come, for nobody knows whether it was done.
    pub(crate) async fn take_note(&self, lead: Lead) {
        let before = *self.lead.borrow();
        if before == lead {
            return;
        }
        if before == Lead::Here || lead == Lead::Here {
            self.leadership.fetch_add(1, Ordering::SeqCst);
        }
        if before == Lead::Here {
            self.lead.send_replace(lead);
            self.actors.step_down().await;
            if let Some(confirming) = &self.confirming {
                confirming.clear();
            }
            self.waiting.forget_all();
        }
        self.lead.send_replace(lead);
        tracing::info!(shard = self.id, ?lead, "the shard's leader");
    }

    /// Answers whoever waits under a ticket.
    pub(crate) fn answer_ticket(
        self: &Arc<Self>,
        ticket: Ticket,
        reply: ShardReply,
        from: AnsweredFrom,
    ) {
        self.answer(from, move |shard| shard.waiting.give(ticket, reply));
    }

    /// Gives an answer at once or, where it rests on a look and others could lead, once that is known not to be so.
    fn answer(self: &Arc<Self>, from: AnsweredFrom, give: impl FnOnce(&Self) + Send + 'static) {
        match (&self.confirming, from) {
            (Some(confirming), AnsweredFrom::Memory) => {
                let shard = Arc::downgrade(self);
                confirming.hold(move || {
                    if let Some(shard) = shard.upgrade() {
                        give(&shard);
                    }
                });
            }
            (None, _) | (Some(_), AnsweredFrom::Log) => give(self),
        }
    }

    /// State that follows from the log.
    pub(crate) fn looked_at(&self) -> RwLockReadGuard<'_, Derived> {
        self.derived.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts to sleep whom nobody has asked for anything for a while; what is known of the events of rooms that sleep is
    /// folded too. Returns how many actors.
    pub(crate) async fn put_to_sleep(&self, idle: Duration) -> usize {
        let (rooms, users) = self.actors.put_to_sleep(idle).await;
        for some in rooms.chunks(FOLDS_MAX) {
            let mut derived = self.derived.write().unwrap_or_else(PoisonError::into_inner);
            for room in some {
                derived.index.fold(room);
            }
        }
        rooms.len() + users
    }

    /// By which formats and rules the next entry is written and applied.
    pub(crate) fn level(&self) -> Level {
        self.looked_at().level
    }

    /// Puts a command into the queue in front of the log.
    pub(crate) fn queue(
        &self,
        command: Command,
        ticket: Option<Ticket>,
    ) -> Result<(), NotAppended> {
        if !self.leads() {
            return Err(NotAppended::TryLater(TryLater::NOT_LED));
        }
        self.queue
            .try_send(Queued { command, ticket })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => NotAppended::TryLater(TryLater::BUSY),
                mpsc::error::TrySendError::Closed(_) => NotAppended::TryLater(TryLater::NOT_LED),
            })
    }

    /// As [`Self::queue`], waiting for a place: for the shard's own sessions, which hold no ticket.
    pub(crate) async fn queue_own(&self, command: Command) -> Result<(), NotAppended> {
        let queued = Queued {
            command,
            ticket: None,
        };
        let closed = NotAppended::TryLater(TryLater::NOT_LED);
        if !self.leads() {
            return Err(closed);
        }
        self.queue.send(queued).await.map_err(|_| closed)
    }

    /// How many commands wait in front of the log, and how many may.
    pub(crate) fn queued(&self) -> (usize, usize) {
        let limit = self.queue.max_capacity();
        (limit - self.queue.capacity(), limit)
    }

    /// Hands an input to an actor, which is woken if it sleeps; one that never was begins only if there is more to do than
    /// to answer.
    pub(crate) async fn hand<D: Performed>(
        self: &Arc<Self>,
        key: &D::Key,
        input: D::Input,
    ) -> Result<(), Unreachable> {
        let mut directory = self.actors.of::<D>().lock().await;
        if let Some(actor) = directory.find(key).await? {
            drop(directory);
            return Ok(actor.send(input).await?);
        }
        let InPassing { begins, orders } = in_passing::<D>(input, self.time());
        if let Some(desk) = begins {
            directory.begin(key, desk).await?;
        }
        drop(directory);
        for order in orders {
            perform::perform::<D>(self, key, order, AnsweredFrom::Memory);
        }
        Ok(())
    }

    /// Looks at the state of an actor, which is not woken for that.
    pub(crate) async fn look<D: Kept, R: Send + 'static>(
        &self,
        key: &D::Key,
        look: impl FnOnce(&D::Fold) -> R + Send + 'static,
    ) -> Result<R, Unreachable> {
        let seen = self.actors.of::<D>().lock().await.seen(key)?;
        match seen {
            Seen::Awake(actor) => Ok(actor.look(look).await?),
            Seen::Is(fold) => Ok(look(&fold)),
        }
    }

    /// Brings the result of an order back to the actor that gave it.
    pub(crate) fn report<D: Kept>(self: &Arc<Self>, key: &D::Key, input: D::Input) {
        let (shard, key) = (Arc::clone(self), key.clone());
        tokio::spawn(async move {
            // An actor that has ended took its waiting requests with it.
            if let Ok(Some(actor)) = shard.actors.of::<D>().lock().await.find(&key).await {
                let _ = actor.report(input);
            }
        });
    }

    /// Tells an actor that the log did not take its command.
    fn tell_refused<D: Kept>(self: &Arc<Self>, key: &D::Key, ticket: Ticket, refused: NotAppended) {
        self.report::<D>(key, D::not_appended(ticket, refused));
    }

    /// Tells those who wait for the commands of a batch that it is not in the log.
    fn not_appended(self: &Arc<Self>, decoded: &Decoded, refused: NotAppended) {
        for (command, ticket) in decoded.commands(self.leadership()) {
            let Some(ticket) = ticket else { continue };
            match command {
                Command::Hub(room, _) => self.tell_refused::<desk::Desk>(room, ticket, refused),
                Command::Follower(room, _) => {
                    self.tell_refused::<follower_desk::Desk>(room, ticket, refused);
                }
                Command::User(user, _) => {
                    self.tell_refused::<user_desk::Desk>(user, ticket, refused);
                }
                Command::Link(_) => {
                    let redriven = ShardReply::Redriven(refused.into());
                    self.waiting.give(ticket, redriven);
                }
                Command::Name(_) => {
                    let refused = Answer::Refused(refused.into());
                    self.waiting.give(ticket, ShardReply::Room(refused));
                }
                // Nobody waits for it.
                Command::Level(_) => {}
            }
        }
    }
}

/// No actors of a kind yet; their orders are carried out for as long as their shard exists.
fn nobody<D: Performed>(
    shard: &Weak<Shard>,
    clock: &Clock,
    supervisor: &ActorCell,
    awake: &Awake,
) -> Mutex<Directory<D>> {
    let shard = shard.clone();
    let perform = move |key: &D::Key| -> Perform<D> {
        let (shard, key) = (shard.clone(), key.clone());
        Arc::new(move |effect| {
            if let Some(shard) = shard.upgrade() {
                perform::perform::<D>(&shard, &key, effect, AnsweredFrom::Memory);
            }
        })
    };
    Mutex::new(Directory::new(
        Arc::clone(clock),
        Box::new(perform),
        supervisor.clone(),
        awake.clone(),
    ))
}

/// Takes what waits, as one entry after another, and puts it into the log: an entry gathers for as long as the one
/// before it is under way. Ends when the shard is dropped.
pub(crate) async fn gather<P, F>(shard: Weak<Shard>, mut waiting: Gathering, propose: P)
where
    P: Fn(Batch) -> F,
    F: Future<Output = Result<(), NotAppended>>,
{
    let mut again: Vec<Command> = Vec::new();
    // What found no room in the entry before.
    let mut held: Option<Queued> = None;
    while let Some(mut next) = next_or_again(&mut waiting, held.take(), again.len()).await {
        let Some(shard) = shard.upgrade() else { return };
        let level = shard.level();
        let mut gathered = Gathered::new(level);
        again = again
            .into_iter()
            .filter_map(|command| gathered.push(command).err())
            .collect();
        let mut tickets = vec![None; gathered.count()];
        while let Some(Queued { command, ticket }) = next.take().or_else(|| {
            let may_take = gathered.may_take();
            may_take.then(|| waiting.0.try_recv().ok()).flatten()
        }) {
            let alone = gathered.count() == 0;
            if let Err(command) = gathered.push(command) {
                held = Some(Queued { command, ticket });
                break;
            }
            tickets.push(ticket);
            if alone && gathered.holds_welcome() {
                tokio::time::sleep(WELCOMES_FOLLOW).await;
            }
        }
        let bytes = gathered.bytes();
        let entry = gathered.entry((shard.environment.clock)());
        let mut lead = shard.lead.subscribe();
        let decoded = Arc::new(Decoded::proposed(entry, tickets, shard.leadership()));
        let batch = decoded::batch(&decoded, level, bytes);
        // A node that is cut off would wait for a majority until it is not.
        let proposed = tokio::select! {
            proposed = propose(batch) => proposed,
            () = lost(&mut lead) => Err(NotAppended::TryLater(TryLater::NOT_LED)),
        };
        if let Err(refused) = proposed {
            shard.not_appended(&decoded, refused);
            if refused == NotAppended::StorageFull {
                // Nobody waits for what the shard's own sessions recorded, and they do not record it twice.
                let own = decoded.commands(shard.leadership());
                let own = own.filter(|(command, _)| matches!(command, Command::Link(_)));
                again.extend(own.map(|(command, _)| command.clone()));
            }
        }
    }
}

/// The next command that waits; nothing, after a while, if some wait to be tried `again`. `None` at the end.
async fn next_or_again(
    waiting: &mut Gathering,
    held: Option<Queued>,
    again: usize,
) -> Option<Option<Queued>> {
    if held.is_some() {
        return Some(held);
    }
    if again == 0 {
        return waiting.0.recv().await.map(Some);
    }
    if again >= ENTRY_COMMANDS_MAX {
        // They are an entry of their own: what is taken besides would not be in it.
        tokio::time::sleep(OWN_AGAIN).await;
        return Some(None);
    }
    match tokio::time::timeout(OWN_AGAIN, waiting.0.recv()).await {
        Ok(next) => next.map(Some),
        Err(_) => Some(None),
    }
}

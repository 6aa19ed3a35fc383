//! The one actor that runs any fold and desk, and the handle that all others see of it.
//!
//! Owns: one fold, its desk, and the mailbox permits. Promises: one message per log entry; the orders that follow from
//! an entry are handed to the shard together with the outcomes, which performs them after it has recorded those; a
//! command that makes the fold panic freezes this actor alone. Not here: what an order means (`perform`).

use crate::{
    limits::MAILBOX_INPUTS_MAX,
    machine::{
        CommandOf, Desk, Effect, EffectOf, Fold, Millis, Moment, OutcomeOf, Position, Ticket,
    },
    wire::version::Level,
};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// The node's clock.
pub type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;
/// Carries out the orders of one actor. It must not block or wait.
pub type Perform<D> = Arc<dyn Fn(EffectOf<D>) + Send + Sync>;

/// A command that made its fold panic, or came to a fold that had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("frozen since the command at {at}")]
pub struct Poisoned {
    /// The command that made the fold panic.
    pub at: Position,
}

/// The actor is gone; whoever needs it asks the directory for it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the actor has ended")]
pub struct Gone;

/// A command on its way to a fold.
pub struct Work<D: Desk> {
    /// Where it stands in the log.
    pub at: Position,
    /// The command.
    pub command: Arc<CommandOf<D>>,
    /// Who waits for it on this node.
    pub ticket: Option<Ticket>,
}

/// What all commands of a log entry have in common.
#[derive(Clone, Copy, Debug)]
pub struct OfEntry {
    /// The time of the log.
    pub time: Millis,
    /// The level that the shard had before it.
    pub level: Level,
}

/// What one log entry did to one actor.
pub struct Applied<D: Desk> {
    /// The outcome of each command, in order.
    pub outcomes: Vec<Result<OutcomeOf<D>, Poisoned>>,
    /// The orders that follow; they are carried out when the outcomes are recorded.
    pub effects: Vec<EffectOf<D>>,
}

/// A look at a fold.
type Look<D> = Box<dyn FnOnce(&<D as Desk>::Fold) + Send>;

enum Message<D: Desk> {
    Input(D::Input, Option<OwnedSemaphorePermit>),
    Apply {
        entry: OfEntry,
        work: Vec<Work<D>>,
        done: oneshot::Sender<Applied<D>>,
    },
    Look(Look<D>),
    Compact(oneshot::Sender<Result<Vec<u8>, Poisoned>>),
    StepDown,
    Sleep(oneshot::Sender<Option<Vec<u8>>>),
}

/// Tells whoever waits that the actor is frozen.
fn frozen<D: Desk>(ticket: Ticket) -> EffectOf<D> {
    let answer = D::frozen();
    Effect::Answer { ticket, answer }
}

/// How an actor is begun.
pub struct Start<D: Desk> {
    /// Its state.
    pub fold: D::Fold,
    /// What it holds besides, where it was begun in passing; see [`in_passing`].
    pub desk: D,
    /// The node's clock.
    pub clock: Clock,
    /// Carries out its orders.
    pub perform: Perform<D>,
}

struct State<D: Desk> {
    fold: D::Fold,
    desk: D,
    poisoned: Option<Poisoned>,
    clock: Clock,
    perform: Perform<D>,
}

struct Host<D>(std::marker::PhantomData<fn() -> D>);

impl<D: Desk> Actor for Host<D> {
    type Msg = Message<D>;
    type State = State<D>;
    type Arguments = Start<D>;

    async fn pre_start(
        &self,
        _myself: ActorRef<Message<D>>,
        start: Start<D>,
    ) -> Result<State<D>, ActorProcessingErr> {
        let Start {
            fold,
            desk,
            clock,
            perform,
        } = start;
        Ok(State {
            fold,
            desk,
            poisoned: None,
            clock,
            perform,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message<D>>,
        message: Message<D>,
        state: &mut State<D>,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Input(input, permit) => {
                state.input(input);
                drop(permit);
            }
            Message::Apply { entry, work, done } => {
                // A shard that no longer waits has stopped; its log is replayed when it starts again.
                drop(done.send(state.apply(entry, &work)));
            }
            Message::Look(look) => look(&state.fold),
            Message::Compact(answer) => {
                let compact = match state.poisoned {
                    None => Ok(state.fold.compact()),
                    Some(poisoned) => Err(poisoned),
                };
                drop(answer.send(compact));
            }
            // What the desk held was volatile; those who waited are told elsewhere.
            Message::StepDown => state.desk = D::default(),
            Message::Sleep(answer) => {
                let idle = state.desk.is_idle() && state.poisoned.is_none();
                if answer.send(idle.then(|| state.fold.compact())).is_ok() && idle {
                    myself.stop(None);
                }
            }
        }
        Ok(())
    }
}

impl<D: Desk> State<D> {
    fn input(&mut self, input: D::Input) {
        let ticket = D::ticket(&input);
        if self.poisoned.is_some() {
            return (self.perform)(frozen::<D>(ticket));
        }
        let now = (self.clock)();
        let orders = handled(&mut self.desk, &self.fold, input, now);
        orders.into_iter().for_each(|effect| (self.perform)(effect));
    }

    fn apply(&mut self, entry: OfEntry, work: &[Work<D>]) -> Applied<D> {
        let mut applied = Applied {
            outcomes: Vec::with_capacity(work.len()),
            effects: Vec::new(),
        };
        let now = (self.clock)();
        for work in work {
            let outcome = self.apply_one(entry, work);
            match (&outcome, work.ticket) {
                (Ok(outcome), Some(ticket)) => {
                    self.desk
                        .applied(ticket, outcome, now, &self.fold, &mut applied.effects);
                }
                (Err(_), Some(ticket)) => applied.effects.push(frozen::<D>(ticket)),
                (_, None) => {}
            }
            applied.outcomes.push(outcome);
        }
        applied
    }

    fn apply_one(&mut self, entry: OfEntry, work: &Work<D>) -> Result<OutcomeOf<D>, Poisoned> {
        if let Some(poisoned) = self.poisoned {
            return Err(poisoned);
        }
        let fold = &mut self.fold;
        let (at, command) = (work.at, &*work.command);
        let OfEntry { time, level } = entry;
        let moment = Moment { at, time, level };
        catch_unwind(AssertUnwindSafe(|| fold.apply(moment, command))).map_err(|_| {
            let poisoned = Poisoned { at };
            tracing::error!(%at, "a command made its fold panic; the actor is frozen");
            self.poisoned = Some(poisoned);
            poisoned
        })
    }
}

/// What a desk orders upon an input.
fn handled<D: Desk>(
    desk: &mut D,
    fold: &D::Fold,
    input: D::Input,
    now: Millis,
) -> Vec<EffectOf<D>> {
    let ticket = D::ticket(&input);
    let mut orders = Vec::new();
    if catch_unwind(AssertUnwindSafe(|| {
        desk.handle(input, now, fold, &mut orders);
    }))
    .is_err()
    {
        // What the desk held was volatile; those who waited ask again.
        tracing::error!("a desk panicked; its waiting requests are dropped");
        *desk = D::default();
        orders = vec![frozen::<D>(ticket)];
    }
    orders
}

/// What an input comes to where there is no actor.
pub struct InPassing<D: Desk> {
    /// The desk that an actor has to begin with, if one is needed: the desk holds something, or more than an answer was
    /// ordered.
    pub begins: Option<D>,
    /// The orders, to be carried out once the actor has begun.
    pub orders: Vec<EffectOf<D>>,
}

/// Takes an input for an actor that does not exist. What would only be refused there costs no actor.
#[must_use]
pub fn in_passing<D: Desk<Fold: Default>>(input: D::Input, now: Millis) -> InPassing<D> {
    let mut desk = D::default();
    let orders = handled(&mut desk, &D::Fold::default(), input, now);
    let answers = |order: &EffectOf<D>| matches!(order, Effect::Answer { .. });
    let needed = !desk.is_idle() || !orders.iter().all(answers);
    InPassing {
        begins: needed.then_some(desk),
        orders,
    }
}

/// A lease on a running actor. While one exists, the actor is not put to sleep.
pub struct Handle<D: Desk> {
    actor: ActorRef<Message<D>>,
    permits: Arc<Semaphore>,
    lease: Arc<()>,
}

impl<D: Desk> Clone for Handle<D> {
    fn clone(&self) -> Self {
        let (actor, permits) = (self.actor.clone(), Arc::clone(&self.permits));
        Self {
            actor,
            permits,
            lease: Arc::clone(&self.lease),
        }
    }
}

impl<D: Desk> Handle<D> {
    /// Begins an actor under a supervisor.
    ///
    /// # Errors
    /// When the runtime cannot start it.
    pub async fn start(start: Start<D>, supervisor: ActorCell) -> Result<Self, SpawnErr> {
        let host = Host::<D>(std::marker::PhantomData);
        let (actor, _join) = Actor::spawn_linked(None, host, start, supervisor).await?;
        let permits = Arc::new(Semaphore::new(MAILBOX_INPUTS_MAX));
        Ok(Self {
            actor,
            permits,
            lease: Arc::new(()),
        })
    }

    /// Hands over an input, waiting for a place in the mailbox.
    ///
    /// # Errors
    /// [`Gone`] when the actor has ended.
    pub async fn send(&self, input: D::Input) -> Result<(), Gone> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| Gone)?;
        self.actor
            .cast(Message::Input(input, Some(permit)))
            .map_err(|_| Gone)
    }

    /// Hands over the result of an order of this actor's own: bounded by the orders it gave.
    ///
    /// # Errors
    /// [`Gone`] when the actor has ended.
    pub fn report(&self, input: D::Input) -> Result<(), Gone> {
        self.actor
            .cast(Message::Input(input, None))
            .map_err(|_| Gone)
    }

    /// Applies the commands of one log entry that are for this actor. Carries no permit and is never refused.
    ///
    /// # Errors
    /// [`Gone`] when the actor has ended, which stops the shard.
    pub async fn apply(&self, entry: OfEntry, work: Vec<Work<D>>) -> Result<Applied<D>, Gone> {
        let (done, applied) = oneshot::channel();
        self.actor
            .cast(Message::Apply { entry, work, done })
            .map_err(|_| Gone)?;
        applied.await.map_err(|_| Gone)
    }

    /// Looks at the fold.
    ///
    /// # Errors
    /// [`Gone`] when the actor has ended.
    pub async fn look<R: Send + 'static>(
        &self,
        look: impl FnOnce(&D::Fold) -> R + Send + 'static,
    ) -> Result<R, Gone> {
        let (answer, seen) = oneshot::channel();
        let look = Box::new(move |fold: &D::Fold| drop(answer.send(look(fold))));
        self.actor.cast(Message::Look(look)).map_err(|_| Gone)?;
        seen.await.map_err(|_| Gone)
    }

    /// The compact state of the fold; none of a frozen one, which may be half changed.
    ///
    /// # Errors
    /// [`Gone`] when the actor has ended.
    pub async fn compact(&self) -> Result<Result<Vec<u8>, Poisoned>, Gone> {
        let (answer, compact) = oneshot::channel();
        self.actor
            .cast(Message::Compact(answer))
            .map_err(|_| Gone)?;
        compact.await.map_err(|_| Gone)
    }

    /// Empties the desk: its node no longer leads the shard.
    pub fn step_down(&self) {
        // An actor that has ended has no desk.
        drop(self.actor.cast(Message::StepDown));
    }

    /// Ends the actor, whoever waits: its state is replaced by another.
    pub fn end(&self) {
        self.actor.stop(None);
    }

    /// Ends the actor if nobody else holds a lease on it and nobody waits, and returns its compact state.
    pub async fn sleep(&self) -> Option<Vec<u8>> {
        if Arc::strong_count(&self.lease) > 1 {
            return None;
        }
        let (answer, compact) = oneshot::channel();
        self.actor.cast(Message::Sleep(answer)).ok()?;
        compact.await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{machine::ReviveError, supervisor::Supervisor};
    use std::sync::Mutex;

    /// Counts; panics on zero.
    struct Counter(u64);

    impl Fold for Counter {
        type Command = u64;
        type Outcome = u64;
        fn apply(&mut self, _moment: Moment, command: &u64) -> u64 {
            assert!(*command != 0, "zero");
            self.0 += command;
            self.0
        }
        fn compact(&self) -> Vec<u8> {
            self.0.to_be_bytes().to_vec()
        }
        fn revive(bytes: &[u8]) -> Result<Self, ReviveError> {
            let bytes = bytes
                .try_into()
                .map_err(|_| ReviveError("length".to_owned()))?;
            Ok(Self(u64::from_be_bytes(bytes)))
        }
    }

    #[derive(Default)]
    struct Echo;

    impl Desk for Echo {
        type Fold = Counter;
        type Input = Ticket;
        type Answer = Option<u64>;
        type Own = std::convert::Infallible;
        fn handle(
            &mut self,
            input: Ticket,
            _now: Millis,
            fold: &Counter,
            out: &mut Vec<EffectOf<Self>>,
        ) {
            out.push(told(input, Some(fold.0)));
        }
        fn applied(
            &mut self,
            ticket: Ticket,
            outcome: &u64,
            _now: Millis,
            _fold: &Counter,
            out: &mut Vec<EffectOf<Self>>,
        ) {
            out.push(told(ticket, Some(*outcome)));
        }
        fn is_idle(&self) -> bool {
            true
        }
        fn ticket(input: &Ticket) -> Ticket {
            *input
        }
        fn frozen() -> Option<u64> {
            None
        }
    }

    type Told = EffectOf<Echo>;
    type Performed = Arc<Mutex<Vec<Told>>>;

    fn told(ticket: Ticket, answer: Option<u64>) -> Told {
        Effect::Answer { ticket, answer }
    }

    async fn counter(from: u64) -> (Handle<Echo>, Performed) {
        let performed = Performed::default();
        let log = Arc::clone(&performed);
        let start = Start::<Echo> {
            fold: Counter(from),
            desk: Echo,
            clock: Arc::new(|| Millis(1)),
            perform: Arc::new(move |effect| log.lock().unwrap().push(effect)),
        };
        let supervisor = Supervisor::start().await.unwrap();
        (
            Handle::start(start, supervisor.cell()).await.unwrap(),
            performed,
        )
    }

    const ENTRY: OfEntry = OfEntry {
        time: Millis(1),
        level: Level::FIRST,
    };

    fn work(command: u64, ticket: u64) -> Work<Echo> {
        let at = Position {
            entry: command,
            command: 0,
        };
        Work {
            at,
            command: Arc::new(command),
            ticket: Some(Ticket(ticket)),
        }
    }

    #[tokio::test]
    async fn a_panicking_command_freezes_its_actor_alone() {
        let (bad, performed) = counter(0).await;
        let (good, _) = counter(0).await;
        let applied = bad
            .apply(ENTRY, vec![work(3, 1), work(0, 2), work(4, 3)])
            .await
            .unwrap();
        let poisoned = Poisoned {
            at: Position {
                entry: 0,
                command: 0,
            },
        };
        assert_eq!(applied.outcomes, [Ok(3), Err(poisoned), Err(poisoned)]);
        assert_eq!(
            applied.effects,
            [
                told(Ticket(1), Some(3)),
                told(Ticket(2), None),
                told(Ticket(3), None)
            ]
        );
        bad.send(Ticket(9)).await.unwrap();
        bad.look(|_| ()).await.unwrap();
        assert_eq!(*performed.lock().unwrap(), [told(Ticket(9), None)]);
        assert_eq!(bad.sleep().await, None);
        assert_eq!(bad.compact().await, Ok(Err(poisoned)));
        assert_eq!(good.compact().await, Ok(Ok(0_u64.to_be_bytes().to_vec())));
        assert_eq!(
            good.apply(ENTRY, vec![work(5, 1)]).await.unwrap().outcomes,
            [Ok(5)]
        );
    }

    #[tokio::test]
    async fn an_actor_sleeps_only_when_nobody_holds_a_lease_on_it() {
        let (handle, _) = counter(7).await;
        let lease = handle.clone();
        assert_eq!(handle.sleep().await, None);
        drop(lease);
        let compact = handle.sleep().await.unwrap();
        assert_eq!(Counter::revive(&compact).unwrap().0, 7);
    }
}

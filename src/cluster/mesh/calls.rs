//! Many calls on one lane: what waits goes together in one frame, and answers come back in any order.
//!
//! Promises: calls arrive in the order in which they were made; a call whose lane is lost is told so at once, and
//! whether it was carried out is not known then; at most [`CALLS_WAITING_MAX`] wait. Not here: what a call means.

use super::{
    frame::{Answers, CALLS_MAX, Calls, FRAME_BYTES_MAX, Open},
    neighbour::Neighbour,
};
use crate::quic::{LaneReceiver, LaneSender};
use futures::{
    future::BoxFuture,
    stream::{FuturesUnordered, StreamExt},
};
use mimi_actors::wire::{self, Versioned};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};

/// Calls that wait for a lane, at most.
const CALLS_WAITING_MAX: usize = 1_024;
/// Calls of one lane without an answer, at most; the receiver takes no more.
const CALLS_UNANSWERED_MAX: usize = 4_096;
/// How long the rest of a frame may take.
const FRAME_DEADLINE: Duration = Duration::from_secs(10);
/// About how many bytes of calls go into one frame.
const FRAME_FILL_BYTES: usize = 1 << 20;

/// The lane was lost, or there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other node cannot be reached now")]
pub(crate) struct Lost;

/// A call on its way: about how many bytes it has, and where its answer goes.
struct Call<Q, A> {
    call: Q,
    bytes: usize,
    answer: oneshot::Sender<A>,
}

/// The calling side of a lane to one node. The lane is opened when it is first needed, and again when it was lost.
pub(crate) struct Caller<Q, A> {
    waiting: mpsc::Sender<Call<Q, A>>,
}

impl<Q, A> Caller<Q, A>
where
    Q: Versioned + Send + Sync + 'static,
    A: Versioned + Send + 'static,
{
    /// A caller over whatever connection there is to a node; `open` is the lane's first frame.
    pub(super) fn new(over: Weak<Neighbour>, open: Open, priority: i32) -> Self {
        let (waiting, calls) = mpsc::channel(CALLS_WAITING_MAX);
        tokio::spawn(run(over, open, priority, calls));
        Self { waiting }
    }

    /// Puts a call of about `bytes` bytes on its way; calls keep their order.
    ///
    /// # Errors
    /// [`Lost`] when too many wait already.
    pub(crate) fn begin(&self, call: Q, bytes: usize) -> Result<oneshot::Receiver<A>, Lost> {
        let (answer, answered) = oneshot::channel();
        let call = Call {
            call,
            bytes,
            answer,
        };
        self.waiting.try_send(call).map_err(|_| Lost)?;
        Ok(answered)
    }
}

/// The calls of a lane that wait for their answers.
type Unanswered<A> = Arc<Mutex<HashMap<u64, oneshot::Sender<A>>>>;

async fn run<Q, A>(
    over: Weak<Neighbour>,
    open: Open,
    priority: i32,
    mut calls: mpsc::Receiver<Call<Q, A>>,
) where
    Q: Versioned + Send + Sync + 'static,
    A: Versioned + Send + 'static,
{
    while let Some(first) = calls.recv().await {
        let Some(neighbour) = over.upgrade() else {
            return;
        };
        let Some(link) = neighbour.link() else {
            // Dropped, the call is told that it is lost.
            continue;
        };
        drop(neighbour);
        let Ok((mut to, from)) = link.link().open_lane().await else {
            continue;
        };
        to.set_priority(priority);
        if to.write(&open).await.is_err() {
            continue;
        }
        if let Err(error) = pump(first, &mut calls, to, from).await {
            tracing::debug!(node = link.node(), %error, "a lane to a node of the cluster ended");
        }
    }
}

/// Sends calls until the lane is lost. What waits for an answer then is told so.
async fn pump<Q, A>(
    first: Call<Q, A>,
    calls: &mut mpsc::Receiver<Call<Q, A>>,
    mut to: LaneSender,
    from: LaneReceiver,
) -> anyhow::Result<()>
where
    Q: Versioned + Send + Sync + 'static,
    A: Versioned + Send + 'static,
{
    let unanswered: Unanswered<A> = Arc::default();
    let reading = read_answers(from, Arc::clone(&unanswered));
    tokio::pin!(reading);
    let mut number = 0_u64;
    let mut next = Some(first);
    loop {
        let Some(call) = next.take() else {
            tokio::select! {
                ended = &mut reading => return ended,
                call = calls.recv() => match call {
                    Some(call) => next = Some(call),
                    None => return Ok(()),
                },
            }
            continue;
        };
        let (mut bytes, mut frame) = (0, Vec::new());
        let mut call = Some(call);
        while let Some(Call {
            call: asked,
            bytes: size,
            answer,
        }) = call
        {
            // A node of an earlier release is not asked what it has no word for: dropped, that call is told that it is
            // lost, and the others on the lane go on.
            if let Err(error) = to.takes(&asked) {
                tracing::warn!(%error, "a node of an earlier release cannot be asked; bring it up to date");
            } else {
                number += 1;
                unanswered
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(number, answer);
                frame.push((number, asked));
                bytes += size;
            }
            let room = frame.len() < CALLS_MAX && bytes < FRAME_FILL_BYTES;
            call = if room { calls.try_recv().ok() } else { None };
        }
        if frame.is_empty() {
            continue;
        }
        let calls = Calls(frame);
        tokio::select! {
            ended = &mut reading => return ended,
            sent = to.write_sized(&calls, bytes + 64) => sent?,
        }
    }
}

async fn read_answers<A: Versioned>(
    mut from: LaneReceiver,
    unanswered: Unanswered<A>,
) -> anyhow::Result<()> {
    while let Some(frame) = from.next(FRAME_BYTES_MAX, Some(FRAME_DEADLINE)).await? {
        let Answers(answers) = wire::decode::<Answers<A>>(&frame)?;
        for (number, answer) in answers {
            let waiting = unanswered
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&number);
            if let Some(waiting) = waiting {
                // Whoever asked may have stopped waiting.
                drop(waiting.send(answer));
            }
        }
    }
    anyhow::bail!("the other side ended the lane")
}

/// What the calls of a lane mean.
pub(super) trait Serve: Sync {
    /// A call.
    type Call: Versioned + Send;
    /// Its answer.
    type Answer: Versioned + Send + Sync;

    /// Begins to answer a call. Awaited for one call after the other; what it returns is awaited for all at once.
    fn begin(
        &self,
        call: Self::Call,
    ) -> impl Future<Output = BoxFuture<'static, Self::Answer>> + Send;
}

/// Answers the calls of a lane until it ends.
pub(super) async fn serve<S: Serve>(
    mut to: LaneSender,
    mut from: LaneReceiver,
    serve: S,
) -> anyhow::Result<()> {
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(first) = under_way.next(), if !under_way.is_empty() => {
                let mut answers = vec![first];
                while answers.len() < CALLS_MAX
                    && let Some(Some(more)) = futures::FutureExt::now_or_never(under_way.next())
                {
                    answers.push(more);
                }
                // Whoever asked waits for its deadline then, as when the answer is lost.
                answers.retain(|(_, answer)| to.takes(answer).is_ok());
                to.write(&Answers(answers)).await?;
            }
            frame = from.next(FRAME_BYTES_MAX, Some(FRAME_DEADLINE)),
                if under_way.len() < CALLS_UNANSWERED_MAX =>
            {
                let Some(frame) = frame? else { return Ok(()) };
                let Calls(calls) = wire::decode::<Calls<S::Call>>(&frame)?;
                anyhow::ensure!(calls.len() <= CALLS_MAX, "{} calls in one frame, the limit is {CALLS_MAX}", calls.len());
                for (number, call) in calls {
                    let answering = serve.begin(call).await;
                    under_way.push(async move { (number, answering.await) });
                }
            }
        }
    }
}

//! An open lane: frames of shards go out, and their answers come back. In version 1 there is only one shard, which no frame
//! names.

use crate::quic::{LaneReceiver, LaneSender, Link};
use bytes::Bytes;
use mimi_actors::{
    limits::{BATCH_FILL_BYTES, LANE_FRAMES_UNACKED_MAX, REQUEST_FRAME_BYTES_MAX},
    wire::{
        self, FrameError, Versioned,
        link::{OfShard, Open},
    },
};
use std::time::Duration;
use tokio::{sync::mpsc, task::JoinHandle};

/// How long the rest of a frame may take.
const FRAME_DEADLINE: Duration = Duration::from_secs(10);
/// The session of a lane that has only one.
const ONLY_SESSION: u64 = 1;

/// An open lane, whose answers are `A`.
pub(super) struct Exchange<A> {
    to: LaneSender,
    answers: mpsc::Receiver<OfShard<A>>,
    /// The only shard of the lane, in version 1.
    alone: Option<u16>,
    _reading: AbortOnDrop,
}

/// Ends its task with itself.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<A: Versioned + Send + 'static> Exchange<A> {
    /// Opens a lane.
    ///
    /// # Errors
    /// When the connection has ended.
    pub(super) async fn open(link: &Link, open: &Open, alone: Option<u16>) -> anyhow::Result<Self> {
        let (mut to, from) = link.open_lane().await?;
        to.write(open).await?;
        let (report, answers) = mpsc::channel(LANE_FRAMES_UNACKED_MAX);
        Ok(Self {
            to,
            answers,
            alone,
            _reading: AbortOnDrop(tokio::spawn(read(from, report, alone))),
        })
    }

    /// The next answer; `None` when no more will come: the lane is of no use any more. May be dropped and called again.
    pub(super) async fn answer(&mut self) -> Option<OfShard<A>> {
        self.answers.recv().await
    }

    /// Writes a frame. What is answered meanwhile is given to `take`, so that the peer never waits for this side.
    ///
    /// # Errors
    /// When the lane or the connection is lost, and what `take` gives.
    pub(super) async fn write<T: Versioned>(
        &mut self,
        frame: &OfShard<T>,
        mut take: impl FnMut(OfShard<A>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (to, alone) = (&mut self.to, self.alone.is_some());
        let writing = async {
            if alone {
                to.write_sized(&frame.said, BATCH_FILL_BYTES).await
            } else {
                to.write_sized(frame, BATCH_FILL_BYTES).await
            }
        };
        let mut writing = std::pin::pin!(writing);
        loop {
            tokio::select! {
                biased;
                written = &mut writing => return Ok(written?),
                Some(answer) = self.answers.recv() => take(answer)?,
            }
        }
    }
}

/// Reads answers until one does not decode, or nobody wants them.
async fn read<A: Versioned>(
    mut from: LaneReceiver,
    report: mpsc::Sender<OfShard<A>>,
    alone: Option<u16>,
) {
    while let Ok(Some(frame)) = from
        .next(REQUEST_FRAME_BYTES_MAX, Some(FRAME_DEADLINE))
        .await
    {
        match of_shard(&frame, alone) {
            Ok(answer) => {
                if report.send(answer).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "an answer on a long lane does not decode");
                return;
            }
        }
    }
}

/// What a frame says, and of which shard: on a lane of version 1 it is the only one's.
///
/// # Errors
/// When it is no such frame.
pub(super) fn of_shard<T: Versioned>(
    frame: &Bytes,
    alone: Option<u16>,
) -> Result<OfShard<T>, FrameError> {
    let Some(shard) = alone else {
        return wire::decode(frame);
    };
    Ok(OfShard {
        shard,
        session: ONLY_SESSION,
        said: wire::decode(frame)?,
    })
}

//! The two long lanes of the door, and their halves.

use super::{DoorError, read, write};
use mimi_actors::{
    limits::{BATCH_FRAME_BYTES_MAX, LANE_FRAMES_UNACKED_MAX, REQUEST_FRAME_BYTES_MAX},
    wire::door::{Acks, Events, Send, Sent},
};
use mimi_quic::{LaneReceiver, LaneSender};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// A lane for application messages.
pub struct SendLane {
    /// Takes the messages.
    pub requests: SendRequests,
    /// Gives the answers.
    pub replies: SendReplies,
}

/// The half that takes messages.
pub struct SendRequests {
    lane: LaneSender,
    window: Arc<Semaphore>,
}

/// The half that gives an answer for each frame, in order.
pub struct SendReplies {
    lane: LaneReceiver,
    window: Arc<Semaphore>,
}

impl SendLane {
    pub(super) fn new((sender, receiver): (LaneSender, LaneReceiver)) -> Self {
        let window = Arc::new(Semaphore::new(LANE_FRAMES_UNACKED_MAX));
        Self {
            requests: SendRequests {
                lane: sender,
                window: window.clone(),
            },
            replies: SendReplies {
                lane: receiver,
                window,
            },
        }
    }

    /// As [`SendRequests::send`].
    ///
    /// # Errors
    /// As there.
    pub async fn send(&mut self, frame: &Send) -> Result<(), DoorError> {
        self.requests.send(frame).await
    }

    /// As [`SendReplies::next_sent`].
    ///
    /// # Errors
    /// As there.
    pub async fn next_sent(&mut self) -> Result<Sent, DoorError> {
        self.replies.next_sent().await
    }

    /// The halves, for two tasks.
    #[must_use]
    pub fn split(self) -> (SendRequests, SendReplies) {
        (self.requests, self.replies)
    }
}

impl SendRequests {
    /// Sends a frame; waits while [`LANE_FRAMES_UNACKED_MAX`] frames have no answer.
    ///
    /// # Errors
    /// [`DoorError::Lane`] when the connection is gone, [`DoorError::Closed`] when the other half is.
    pub async fn send(&mut self, frame: &Send) -> Result<(), DoorError> {
        let permit = self.window.acquire().await.map_err(|_| DoorError::Closed)?;
        // The answer gives it back.
        permit.forget();
        write(&mut self.lane, frame).await
    }

    /// No more frames will come; their answers still do.
    ///
    /// # Errors
    /// [`DoorError::Lane`] when that was said before.
    pub fn finish(&mut self) -> Result<(), DoorError> {
        Ok(self.lane.finish()?)
    }
}

impl SendReplies {
    /// The answer to the oldest frame without one. Waits as long as it takes; may be dropped and called again.
    ///
    /// # Errors
    /// [`DoorError::Closed`] when the provider ended the lane.
    pub async fn next_sent(&mut self) -> Result<Sent, DoorError> {
        let sent = read(&mut self.lane, REQUEST_FRAME_BYTES_MAX).await?;
        self.window.add_permits(1);
        Ok(sent)
    }
}

impl Drop for SendReplies {
    fn drop(&mut self) {
        // Nobody would open the window any more.
        self.window.close();
    }
}

/// The event stream.
pub struct EventLane {
    /// Gives the events.
    pub items: EventItems,
    /// Takes the acknowledgements.
    pub acks: EventAcks,
}

/// The half that gives events.
pub struct EventItems {
    lane: LaneReceiver,
}

/// The half that takes acknowledgements.
pub struct EventAcks {
    lane: LaneSender,
}

impl EventLane {
    pub(super) fn new((sender, receiver): (LaneSender, LaneReceiver)) -> Self {
        Self {
            items: EventItems { lane: receiver },
            acks: EventAcks { lane: sender },
        }
    }

    /// As [`EventItems::next`].
    ///
    /// # Errors
    /// As there.
    pub async fn next(&mut self) -> Result<Events, DoorError> {
        self.items.next().await
    }

    /// As [`EventAcks::ack`].
    ///
    /// # Errors
    /// As there.
    pub async fn ack(&mut self, acks: &Acks) -> Result<(), DoorError> {
        self.acks.ack(acks).await
    }

    /// The halves, for two tasks.
    #[must_use]
    pub fn split(self) -> (EventItems, EventAcks) {
        (self.items, self.acks)
    }
}

impl EventItems {
    /// The next batch. Waits as long as it takes; may be dropped and called again.
    ///
    /// # Errors
    /// [`DoorError::Closed`] when the provider ended the stream.
    pub async fn next(&mut self) -> Result<Events, DoorError> {
        read(&mut self.lane, BATCH_FRAME_BYTES_MAX).await
    }
}

impl EventAcks {
    /// Acknowledges what is safe on the device: it is not sent again.
    ///
    /// # Errors
    /// [`DoorError::Lane`] when the connection is gone.
    pub async fn ack(&mut self, acks: &Acks) -> Result<(), DoorError> {
        write(&mut self.lane, acks).await
    }
}

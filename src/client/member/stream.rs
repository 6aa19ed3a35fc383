//! The event stream of a member: waiting for it, processing, saving, acknowledging.

use super::{Member, MemberError};
use crate::door::EventLane;
use mimi_actors::{ids::RoomUri, wire::door::Order};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Batches processed between two saves, at most.
const BATCHES_PER_SAVE_MAX: usize = 16;

impl Member {
    /// Waits at most `wait` for events, processes what there is, saves, acknowledges. Says whether anything came.
    ///
    /// # Errors
    /// [`MemberError::Door`] when the stream ends; the next call opens it again on the same connection.
    pub async fn pump(&mut self, wait: Duration) -> Result<bool, MemberError> {
        let came = self.process(Instant::now() + wait).await;
        if came.is_err() {
            self.end_stream();
        }
        if came? {
            // What is acknowledged is not sent again, so it must be safe here before.
            self.save().await?;
            // Before the acknowledgement: a device that stops here is told again.
            self.refill().await?;
            for acks in self.acks() {
                if let Err(error) = self.stream().await?.ack(&acks).await {
                    self.end_stream();
                    return Err(error.into());
                }
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Processes events until the condition holds. A member that may roam goes on at another node when its own fails.
    ///
    /// # Errors
    /// [`MemberError::Deadline`] when it does not hold within `wait`; [`MemberError::Door`] when the stream ends.
    pub async fn run_until(
        &mut self,
        wait: Duration,
        condition: impl Fn(&Self) -> bool,
    ) -> Result<(), MemberError> {
        let deadline = Instant::now() + wait;
        while !condition(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.pump(left).await {
                Ok(true) => {}
                Ok(false) => return Err(MemberError::Deadline),
                Err(failure) if self.moved(&failure, deadline).await => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// Waits for a batch, and processes it and those that are there behind it.
    async fn process(&mut self, deadline: Instant) -> Result<bool, MemberError> {
        self.begin_stream().await?;
        let mut wait_until = deadline;
        for processed in 0..BATCHES_PER_SAVE_MAX {
            let stream = self.stream().await?;
            let batch = match timeout_at(wait_until, stream.next()).await {
                Ok(Ok(batch)) => batch,
                Err(_) => return Ok(processed > 0),
                // A stream that ends behind a batch says so again on the next call, after that batch is safe.
                Ok(Err(_)) if processed > 0 => return Ok(true),
                Ok(Err(error)) => return Err(error.into()),
            };
            for item in batch.items {
                self.take(item);
            }
            wait_until = Instant::now();
        }
        Ok(true)
    }

    /// Opens the event stream when there is none, then asks for the verdicts that may have come while there was none.
    async fn begin_stream(&mut self) -> Result<(), MemberError> {
        let open = self
            .session
            .as_ref()
            .is_some_and(|session| session.events.is_some());
        if open {
            return Ok(());
        }
        self.stream().await?;
        let known: Vec<RoomUri> = self.record.rooms.keys().cloned().collect();
        for room in known {
            if self.unresolved(&room).is_empty() {
                continue;
            }
            match self.resend(&room).await {
                // A word that cannot be had now is asked for again with the next stream.
                Ok(()) | Err(MemberError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The event stream, opened when there is none.
    async fn stream(&mut self) -> Result<&mut EventLane, MemberError> {
        let Some(session) = self.session.as_mut() else {
            return Err(MemberError::NotConnected);
        };
        let lane = match session.events.take() {
            Some(lane) => lane,
            None => session.door.events_in(self.order).await?,
        };
        Ok(session.events.insert(lane))
    }

    /// Reads events in this order from now on, whatever was read so far in another.
    pub fn read_as(&mut self, order: Order) {
        if self.order != order {
            self.order = order;
            self.end_stream();
        }
    }

    fn end_stream(&mut self) {
        self.held.clear();
        if let Some(session) = self.session.as_mut() {
            session.events = None;
        }
    }
}

//! Sending application messages, and sending them again.

use super::{Member, MemberError};
use crate::door::DoorError;
use mimi_actors::{
    ids::RoomUri,
    limits::LANE_FRAMES_UNACKED_MAX,
    wire::{
        answer::Answer,
        door::{Send, Sent},
        event::ClientSeq,
    },
};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long a window of frames may wait for its answers.
const SENT_DEADLINE: Duration = Duration::from_secs(30);
/// How often the provider may say that a number is missing before the member gives up.
const GAP_ROUNDS_MAX: usize = 3;

impl Member {
    /// Sends texts; gives the number of the first. When it fails after they were numbered, [`Self::resend`] goes on.
    ///
    /// # Errors
    /// [`MemberError::ProposalsPending`] before anything is numbered; [`MemberError::Door`] and [`MemberError::Refused`]
    /// after that.
    pub async fn send(&mut self, room: &RoomUri, texts: &[&str]) -> Result<ClientSeq, MemberError> {
        let first = self.encrypt(room, texts)?;
        self.save().await?;
        self.transmit(room, first).await?;
        Ok(first)
    }

    /// Sends the own messages without a final verdict again, with the same numbers and bytes.
    ///
    /// # Errors
    /// [`MemberError::Door`] and [`MemberError::Refused`].
    pub async fn resend(&mut self, room: &RoomUri) -> Result<(), MemberError> {
        self.transmit(room, ClientSeq(1)).await
    }

    async fn transmit(&mut self, room: &RoomUri, from: ClientSeq) -> Result<(), MemberError> {
        let mut from = from;
        for _ in 0..GAP_ROUNDS_MAX {
            let frames = self.frames(room, from);
            let answers = self.pass(frames).await?;
            let mut missing = None;
            for sent in answers {
                match self.sent(&sent)? {
                    None => {}
                    Some(expected) => missing = missing.or(Some(expected)),
                }
            }
            self.save().await?;
            match missing {
                None => return Ok(()),
                Some(expected) => from = expected,
            }
        }
        Err(DoorError::Unexpected.into())
    }

    /// Sends frames with a few in flight, and gives their answers.
    async fn pass(&mut self, frames: Vec<Send>) -> Result<Vec<Sent>, MemberError> {
        let Some(session) = self.session.as_mut() else {
            return Err(MemberError::NotConnected);
        };
        // Taken out for the while: a lane that fails, or is dropped half-way, must not give its answers to others.
        let mut lane = match session.sends.take() {
            Some(lane) => lane,
            None => session.door.sends().await?,
        };
        let mut answers = Vec::with_capacity(frames.len());
        for window in frames.chunks(LANE_FRAMES_UNACKED_MAX) {
            let deadline = Instant::now() + SENT_DEADLINE;
            let exchange = async {
                for frame in window {
                    lane.send(frame).await?;
                }
                for frame in window {
                    let sent = lane.next_sent().await?;
                    if (&sent.room, sent.first) != (&frame.room, frame.first) {
                        return Err(DoorError::Unexpected);
                    }
                    answers.push(sent);
                }
                Ok(())
            };
            timeout_at(deadline, exchange)
                .await
                .map_err(|_| DoorError::Deadline)??;
        }
        session.sends = Some(lane);
        Ok(answers)
    }

    /// Notes an answer; gives the number that the provider misses, if it does.
    fn sent(&mut self, sent: &Sent) -> Result<Option<ClientSeq>, MemberError> {
        match &sent.answer {
            Ok(Answer::Sent(runs)) => {
                for run in runs {
                    self.decided(&sent.room, run);
                }
                Ok(None)
            }
            Ok(Answer::Gap { expected }) => Ok(Some(ClientSeq(*expected))),
            Ok(Answer::Refused(refused)) => Err(MemberError::Refused(refused.clone())),
            Ok(
                Answer::Created
                | Answer::Committed(_)
                | Answer::Proposed(_)
                | Answer::Received
                | Answer::GroupInfo(_)
                | Answer::CodeMade(_)
                | Answer::Codes(_)
                | Answer::CodeRevoked,
            ) => Err(DoorError::Unexpected.into()),
            Err(refused) => Err(DoorError::Refused(refused.clone()).into()),
        }
    }
}

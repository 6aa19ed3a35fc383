//! Application messages: numbered, encrypted once, sent until the verdict.
//!
//! Source: transport requirements, section 4.

use super::{Member, MemberError, encoding, identity, journal::Seen, mls, record::Outgoing};
use bytes::Bytes;
use mimi_actors::{
    ids::{ClientUri, RoomUri},
    limits::SUBMIT_BYTES_MAX,
    machine::Millis,
    wire::{
        BVec, Payload,
        door::Send,
        event::{ClientSeq, Epoch, RoomSeq, Verdict, VerdictRun},
    },
};
use openmls::prelude::ProcessedMessageContent;

impl Member {
    /// Encrypts texts and numbers them; they are sent by [`Self::frames`] until they have a verdict.
    ///
    /// # Errors
    /// [`MemberError::ProposalsPending`] until somebody commits to the room's Proposals.
    pub fn encrypt(&mut self, room: &RoomUri, texts: &[&str]) -> Result<ClientSeq, MemberError> {
        let messages = texts
            .iter()
            .map(|text| self.encrypt_one(room, text.as_bytes()))
            .collect::<Result<Vec<_>, _>>()?;
        let state = self.room_mut(room);
        let first = state.number(messages.len() as u64);
        for ((place, message), text) in (0..).zip(messages).zip(texts) {
            let outgoing = Outgoing {
                message: message.into(),
                text: (*text).to_owned(),
            };
            state.outgoing.insert(first.plus(place), outgoing);
        }
        Ok(first)
    }

    /// Encrypts one message, without a number.
    pub(crate) fn encrypt_one(
        &mut self,
        room: &RoomUri,
        plaintext: &[u8],
    ) -> Result<Bytes, MemberError> {
        if self.group(room)?.has_pending_proposals() {
            return Err(MemberError::ProposalsPending(room.clone()));
        }
        let Some(group) = self.groups.get_mut(room) else {
            return Err(MemberError::NotMember(room.clone()));
        };
        let message = group
            .create_message(&self.mls, &self.signer, plaintext)
            .map_err(mls("encrypt a message"))?;
        Ok(encoding::message(&message)?.0)
    }

    /// Takes `count` own numbers of a room, for messages that somebody else sends for this device. They are saved with
    /// the next save.
    pub fn reserve_numbers(&mut self, room: &RoomUri, count: u64) -> ClientSeq {
        self.room_mut(room).number(count)
    }

    /// The frames that carry the own messages from `from` on that have no final verdict.
    #[must_use]
    pub fn frames(&self, room: &RoomUri, from: ClientSeq) -> Vec<Send> {
        let undecided = self
            .room(room)
            .map(|state| state.undecided(from))
            .unwrap_or_default();
        let mut frames: Vec<Send> = Vec::new();
        let mut bytes = 0;
        for (number, message) in undecided {
            let goes_on = |last: &&mut Send| {
                let follows = last.first.plus(last.messages.len() as u64) == number;
                follows && bytes + message.len() <= SUBMIT_BYTES_MAX && !last.messages.is_full()
            };
            let last = frames.last_mut().filter(goes_on);
            bytes = last.as_ref().map_or(0, |_| bytes) + message.len();
            let begins = match last {
                Some(last) => last.messages.push(message).err(),
                None => Some(message),
            };
            frames.extend(begins.map(|message| Send {
                room: room.clone(),
                first: number,
                messages: BVec::from([message]),
            }));
        }
        frames
    }

    /// Notes the hub's word on own messages.
    pub fn decided(&mut self, room: &RoomUri, run: &VerdictRun) {
        if let Some(state) = self.record.rooms.get_mut(room) {
            state.decide(run);
        }
    }

    /// Reads an application message of the room's events.
    pub(super) fn application_event(
        &mut self,
        room: &RoomUri,
        seq: RoomSeq,
        time: Millis,
        own: Option<ClientSeq>,
        message: &Payload,
    ) -> Result<(), MemberError> {
        let parsed = encoding::protocol_message(message)?;
        let epoch = Epoch(parsed.epoch().as_u64());
        let state = self.record.rooms.entry(room.clone()).or_default();
        let own = own.or_else(|| {
            let same = |(_, outgoing): &(&ClientSeq, &Outgoing)| &outgoing.message == message;
            state.outgoing.iter().find(same).map(|(number, _)| *number)
        });
        if let Some(number) = own {
            let verdict = Verdict::Accepted { seq, time };
            state.verdicts.entry(number).or_insert(verdict);
            let kept = state.outgoing.remove(&number);
            let text = kept.map(|kept| kept.text).unwrap_or_default();
            self.saw(room, seq, epoch, self.record.client.clone(), own, text);
            return Ok(());
        }
        if epoch < state.joined {
            self.record.journal.counts.before_joining += 1;
            return Ok(());
        }
        let Some(group) = self.groups.get_mut(room) else {
            return Err(MemberError::NotMember(room.clone()));
        };
        if !group.is_active() {
            return Ok(());
        }
        let processed = group
            .process_message(&self.mls, parsed)
            .map_err(mls("decrypt a message"))?;
        let sender = identity::client_of(processed.credential())
            .ok_or_else(|| mls("decrypt a message")("its sender's credential names no client"))?;
        match processed.into_content() {
            ProcessedMessageContent::ApplicationMessage(plain) => {
                let text = String::from_utf8_lossy(&plain.into_bytes()).into_owned();
                self.saw(room, seq, epoch, sender, None, text);
                Ok(())
            }
            ProcessedMessageContent::OwnPrivateMessage => {
                self.saw(room, seq, epoch, sender, None, String::new());
                Ok(())
            }
            ProcessedMessageContent::ProposalMessage(_)
            | ProcessedMessageContent::ExternalJoinProposalMessage(_)
            | ProcessedMessageContent::StagedCommitMessage(_)
            | ProcessedMessageContent::OwnPendingCommit => {
                Err(mls("decrypt a message")("another kind of message"))
            }
        }
    }

    fn saw(
        &mut self,
        room: &RoomUri,
        seq: RoomSeq,
        epoch: Epoch,
        sender: ClientUri,
        own: Option<ClientSeq>,
        text: String,
    ) {
        self.record.journal.saw(Seen {
            room: room.clone(),
            seq,
            epoch,
            sender,
            own,
            text,
        });
    }
}

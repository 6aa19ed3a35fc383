//! Application messages at the hub: taken from members, numbered in the room, each with a verdict.
//!
//! A message of a slightly older epoch is taken from whoever was a member then and is one still; a removed member's is
//! refused, whatever its epoch. The same ciphertext is one message, whatever its number.
//!
//! Source: transport requirements, section 4.

use super::{
    hub::{Fold, Room, Submit, Via},
    numbers::Fresh,
    outcome::{Answer, Emission, Outcome, Refused, RefusedRun},
    state::Membership,
};
use crate::{
    ids::ClientUri,
    machine::Moment,
    mls::codec::message::application_header,
    wire::{
        BVec, Payload,
        event::{
            ClientSeq, Copy, Epoch, Lane, Recipient, SubmitRefused, SubmitSeq, Verdict, VerdictRun,
        },
        version::Level,
    },
};

impl Fold {
    pub(super) fn submit(&mut self, moment: Moment, submit: &Submit) -> Outcome {
        let Some(room) = &mut self.room else {
            return Outcome::refused(Refused::NotAuthorized);
        };
        match submit.via {
            Via::Client(first) => room.submit_of_client(moment, submit, first),
            Via::Provider { first, undecided } => {
                room.submit_of_provider(moment, submit, first, undecided)
            }
        }
    }
}

/// Messages in a row with the same verdict.
struct Run {
    item: u32,
    count: u32,
    refused: Option<SubmitRefused>,
    /// The oldest epoch that one of them is of.
    oldest: Epoch,
}

impl Room {
    fn submit_of_client(&mut self, moment: Moment, submit: &Submit, first: ClientSeq) -> Outcome {
        let count = u32::try_from(submit.messages.len()).unwrap_or(u32::MAX);
        let sender = &submit.sender;
        if !self.senders.knows(sender) && !self.has_member(sender) {
            return Outcome::refused(Refused::NotMember);
        }
        let skip = match self.senders.fresh(sender, first, count) {
            Fresh::Gap { expected } => {
                return Outcome::answer(Answer::Gap {
                    expected: expected.0,
                });
            }
            Fresh::After(skip) => skip,
        };
        let mut emitted = Vec::new();
        for run in self.judge(moment.level, submit, skip) {
            let run_first = first.plus(u64::from(run.item));
            let verdict = if let Some(reason) = run.refused {
                Verdict::Refused(reason)
            } else {
                let origin = Some((sender.clone(), run_first));
                let recipients = self.followers();
                let emission = self.emit(moment, &run, origin, recipients);
                let (seq, time) = (emission.first, emission.time);
                emitted.push(emission);
                Verdict::Accepted { seq, time }
            };
            let decided = VerdictRun {
                first: run_first,
                count: run.count,
                verdict,
            };
            self.senders.decide(sender, decided);
        }
        // Each run has one of the messages at least, so none is left out.
        let verdicts = BVec::first_max(self.senders.verdicts(sender, first, count));
        Outcome {
            emitted,
            ..Outcome::answer(Answer::Sent(verdicts))
        }
    }

    fn submit_of_provider(
        &mut self,
        moment: Moment,
        submit: &Submit,
        first: SubmitSeq,
        undecided: SubmitSeq,
    ) -> Outcome {
        let provider = submit.sender.provider().clone();
        let Some(expected) = self.senders.expected_of(&provider, undecided) else {
            return Outcome::refused(Refused::NotAuthorized);
        };
        if first > expected || first.0 == 0 {
            return Outcome::answer(Answer::Gap {
                expected: expected.0,
            });
        }
        let skip = u32::try_from(expected.0 - first.0).unwrap_or(u32::MAX);
        let mut outcome = Outcome::answer(Answer::Received);
        for run in self.judge(moment.level, submit, skip) {
            let run_first = first.plus(u64::from(run.item));
            let last = run_first.plus(u64::from(run.count) - 1);
            self.senders.take_of(&provider, last);
            if let Some(reason) = run.refused {
                let provider = provider.clone();
                outcome.refused.push(RefusedRun {
                    provider,
                    first: run_first,
                    count: run.count,
                    reason,
                });
                continue;
            }
            let mut recipients = self.followers();
            for recipient in recipients.iter_mut().filter(|to| to.provider == provider) {
                recipient.copy = Copy::Own(run_first);
            }
            outcome
                .emitted
                .push(self.emit(moment, &run, None, recipients));
        }
        outcome
    }

    fn emit(
        &mut self,
        moment: Moment,
        run: &Run,
        origin: Option<(ClientUri, ClientSeq)>,
        recipients: Vec<Recipient>,
    ) -> Emission {
        let (first, time) = self.sequence.take(run.count, moment.time);
        Emission {
            first,
            count: run.count,
            at: moment.at,
            item: run.item,
            time,
            origin,
            lane: Lane::Application(run.oldest),
            recipients,
        }
    }

    /// The verdicts on the messages after the first `skip`, as runs. Those that are taken are known again from here on.
    fn judge(&mut self, level: Level, submit: &Submit, skip: u32) -> Vec<Run> {
        let member = self.roster.member(&submit.sender);
        let since = member.map(|member| member.since);
        let has_voice = self.has_voice(level, &submit.sender);
        let tolerance = self.epoch_tolerance(level);
        let mut runs: Vec<Run> = Vec::new();
        for (item, message) in (0_u32..).zip(&submit.messages).skip(skip as usize) {
            let judged = match since {
                None => Err(SubmitRefused::NotMember),
                Some(_) if self.has_ended() => Err(SubmitRefused::Ended),
                Some(_) if !has_voice => Err(SubmitRefused::NoVoice),
                Some(since) => self.judge_message(message, since, tolerance),
            };
            let judged = judged.and_then(|epoch| match member {
                Some(Membership { leaf, .. })
                    if level >= Level::SECOND
                        && !self.since_second.heard.is_new(epoch, leaf, message) =>
                {
                    Err(SubmitRefused::Duplicate)
                }
                Some(_) | None => Ok(epoch),
            });
            let (oldest, refused) = (judged.unwrap_or(self.epoch()), judged.err());
            match runs.last_mut() {
                Some(run) if run.refused == refused => {
                    run.count += 1;
                    run.oldest = run.oldest.min(oldest);
                }
                _ => runs.push(Run {
                    item,
                    count: 1,
                    refused,
                    oldest,
                }),
            }
        }
        runs
    }

    /// The epoch of a message that is taken.
    fn judge_message(
        &self,
        message: &Payload,
        since: Epoch,
        tolerance: u64,
    ) -> Result<Epoch, SubmitRefused> {
        let header = application_header(message).map_err(|_| SubmitRefused::Malformed)?;
        if header.group_id[..] != *self.group_id() {
            return Err(SubmitRefused::Malformed);
        }
        let (epoch, current) = (Epoch(header.epoch), self.epoch());
        if epoch > current {
            return Err(SubmitRefused::EpochAhead { current });
        }
        if epoch.plus(tolerance) < current || epoch < since {
            return Err(SubmitRefused::EpochTooOld { current });
        }
        Ok(epoch)
    }
}

//! A user: what it is on every replica, a fold over its commands.
//!
//! Log order decides which of two claims gets the last package.
//!
//! Source: transport requirements, section 3.1.

use super::{
    Account, Device, User,
    asking::Asking,
    claims::{Handed, fold_refusal},
    command::{Claim, Command, Deliver, Heard, Join, LearnRefilled},
    cursors::Membership,
    inbox::InboxItem,
    outcome::{Answer, Outcome, Refused},
};
pub use super::{Fold, State};
use crate::{
    ids::{ClientUri, Requester, RoomUri},
    machine::{self, Millis, Moment, ReviveError},
    wire::{
        self,
        claim::UserRefused,
        post::DepartedWhy,
        reading::{self, NotRead},
        version::{FOLD, Format, Level, NotInVersion, Unwritten, Versioned},
    },
};

impl machine::Fold for Fold {
    type Command = Command;
    type Outcome = Outcome;

    fn apply(&mut self, moment: Moment, command: &Command) -> Outcome {
        let time = moment.time;
        match command {
            Command::Add(add) => self.add(time, add),
            Command::Delete => self.delete(moment),
            Command::Consent(consent) if moment.level < Level::SECOND => {
                self.on_user(|user| user.consent(consent))
            }
            Command::Consent(consent) => self.on_user(|user| user.consent_for(consent)),
            Command::Revoke(revoke) => self.on_user(|user| user.revoke(moment, revoke)),
            Command::Enrol(enrol) => self.on_user(|user| user.enrol(time, enrol)),
            Command::Upload(upload) => self.on_user(|user| user.upload(time, upload)),
            Command::Claim(claim) => self.claim(moment, claim),
            Command::Deliver(deliver) => self.deliver(moment, deliver),
            Command::Join(join) => self.join(moment, join),
            Command::LearnRefilled(learn) => self.learn_refilled(learn),
            Command::Ack(ack) => self.on_user(|user| user.ack(ack)),
            Command::Introduction(what) => self.on_user(|user| user.introduce(time, what)),
            Command::Consents(ask) => self.on_user(|user| user.consents(time, ask)),
            Command::Heard(heard) => self.hear_consent(moment, heard),
        }
    }

    fn compact(&self) -> Vec<u8> {
        wire::encode_stored(self)
    }

    fn revive(bytes: &[u8]) -> Result<Self, ReviveError> {
        wire::decode(&bytes.to_vec().into()).map_err(|error| ReviveError(error.to_string()))
    }
}

impl Fold {
    /// Whether there never was such a user.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.state() == State::Absent
    }

    /// Whether the user exists.
    #[must_use]
    pub fn state(&self) -> State {
        match self.account {
            Account::Absent => State::Absent,
            Account::Active(_) => State::Active,
            Account::Deleted => State::Deleted,
        }
    }

    /// The key that a device must prove.
    #[must_use]
    pub fn device_key(&self, client: &ClientUri) -> Option<[u8; 32]> {
        self.device(client).map(|device| device.key)
    }

    /// The enrolled clients, in order of name.
    pub fn clients(&self) -> impl Iterator<Item = &ClientUri> {
        self.user().into_iter().flat_map(|user| user.devices.keys())
    }

    /// How many packages a client has in stock, those not counted that expired unnoticed.
    #[must_use]
    pub fn stock(&self, client: &ClientUri) -> usize {
        self.device(client).map_or(0, |device| device.stock.len())
    }

    /// The rooms of which a client has, or had, something to read.
    pub fn memberships(&self, client: &ClientUri) -> impl Iterator<Item = (&RoomUri, Membership)> {
        let rooms = self
            .device(client)
            .into_iter()
            .flat_map(|device| &device.rooms);
        rooms.map(|(room, membership)| (room, *membership))
    }

    /// The notices that a client has not acknowledged, oldest first.
    pub fn inbox(&self, client: &ClientUri) -> impl Iterator<Item = InboxItem> {
        self.device(client)
            .into_iter()
            .flat_map(|device| device.inbox.items())
    }

    /// Who got the package of this reference, as long as that is remembered.
    #[must_use]
    pub fn handed(&self, reference: &[u8]) -> Option<Handed<'_>> {
        self.user().and_then(|user| user.claims.handed(reference))
    }

    /// What the user said about others: who, for which room alone, and whether it was granted.
    pub fn consents(&self) -> impl Iterator<Item = (&Requester, Option<&RoomUri>, bool)> {
        self.user()
            .into_iter()
            .flat_map(|user| user.consents.entries())
    }

    /// The answer to a command that would change nothing, as far as that is plain without the log.
    #[must_use]
    pub fn answer_without_log(&self, time: Millis, command: &Command) -> Option<Answer> {
        if let Command::Introduction(what) = command
            && let Some(introduced) = self.introduced(time, what)
        {
            return Some(Answer::Introduced(introduced));
        }
        match (&self.account, command) {
            (_, Command::Add(_)) => None,
            (Account::Absent, Command::Claim(claim)) => Some(Answer::Claimed(Err(fold_refusal(
                UserRefused::Unknown,
                claim,
            )))),
            (Account::Deleted, Command::Claim(claim)) => Some(Answer::Claimed(Err(fold_refusal(
                UserRefused::Deleted,
                claim,
            )))),
            (Account::Active(user), Command::Claim(claim)) => {
                user.before_stock(time, claim).map(Answer::Claimed)
            }
            // A code that nobody was given costs the log nothing.
            (Account::Active(user), Command::Enrol(enrol)) if !user.may_enrol(time, enrol) => {
                Some(Answer::Refused(Refused::NotKnown))
            }
            // A Welcome that nobody asked for a KeyPackage for costs the log nothing, and is nobody's.
            (Account::Active(user), Command::Deliver(deliver)) if user.is_uninvited(deliver) => {
                Some(Answer::Done)
            }
            (Account::Active(user), Command::Consents(ask)) => user.consents_without_log(time, ask),
            (Account::Active(user), Command::Heard(heard)) => {
                // What a shard of this provider numbers is taken, so that it is known when it comes again.
                let unnumbered = heard.from.is_none();
                (unnumbered && user.is_nothing_new(&heard.entry)).then_some(Answer::Done)
            }
            (Account::Absent, _) => Some(Answer::Refused(Refused::Unknown)),
            (Account::Deleted, _) => Some(Answer::Refused(Refused::Deleted)),
            (Account::Active(_), _) => None,
        }
    }

    pub(super) fn user(&self) -> Option<&User> {
        match &self.account {
            Account::Active(user) => Some(user),
            Account::Absent | Account::Deleted => None,
        }
    }

    #[cfg(test)]
    pub(super) fn user_mut(&mut self) -> Option<&mut User> {
        match &mut self.account {
            Account::Active(user) => Some(user),
            Account::Absent | Account::Deleted => None,
        }
    }

    fn device(&self, client: &ClientUri) -> Option<&Device> {
        self.user().and_then(|user| user.devices.get(client))
    }

    fn on_user(&mut self, act: impl FnOnce(&mut User) -> Outcome) -> Outcome {
        match &mut self.account {
            Account::Absent => Outcome::refused(Refused::Unknown),
            Account::Active(user) => act(user),
            Account::Deleted => Outcome::refused(Refused::Deleted),
        }
    }

    fn delete(&mut self, moment: Moment) -> Outcome {
        let user = match &self.account {
            Account::Absent => return Outcome::refused(Refused::Unknown),
            Account::Active(user) => user,
            Account::Deleted => return Outcome::refused(Refused::Deleted),
        };
        let woken = user.devices.keys().cloned().collect();
        let mut departed = Vec::new();
        for (client, device) in &user.devices {
            departed.extend(device.departs(moment, client, DepartedWhy::Deleted));
        }
        self.account = Account::Deleted;
        Outcome {
            woken,
            departed,
            ..Outcome::answer(Answer::Done)
        }
    }

    fn claim(&mut self, moment: Moment, claim: &Claim) -> Outcome {
        let refused = match &mut self.account {
            Account::Absent => UserRefused::Unknown,
            Account::Active(user) => return user.claim(moment, claim),
            Account::Deleted => UserRefused::Deleted,
        };
        Outcome::answer(Answer::Claimed(Err(fold_refusal(refused, claim))))
    }

    fn learn_refilled(&mut self, learn: &LearnRefilled) -> Outcome {
        match &mut self.account {
            Account::Active(user) => user.learn_refilled(learn),
            Account::Absent | Account::Deleted => Outcome::answer(Answer::Done),
        }
    }

    fn hear_consent(&mut self, moment: Moment, heard: &Heard) -> Outcome {
        match &mut self.account {
            Account::Active(user) => user.hear_consent(moment, heard),
            Account::Absent | Account::Deleted => Outcome::answer(Answer::Done),
        }
    }

    fn deliver(&mut self, moment: Moment, deliver: &Deliver) -> Outcome {
        match &mut self.account {
            Account::Active(user) => user.deliver(moment, deliver),
            // The room cannot help it that the user is gone, and the notices behind this one must go on.
            Account::Absent | Account::Deleted => Outcome::answer(Answer::Done),
        }
    }

    fn join(&mut self, moment: Moment, join: &Join) -> Outcome {
        match &mut self.account {
            Account::Active(user) => user.join(moment, join),
            Account::Absent | Account::Deleted => Outcome::answer(Answer::Done),
        }
    }
}

/// Version 2 counts notices by the provider whose they are, and says which were missed. What was asked about consent follows
/// the fold.
impl Versioned for Fold {
    const FORMAT: Format = FOLD;

    fn read(version: u8, body: &[u8]) -> Result<(Self, &[u8]), NotRead> {
        let (fold, rest): (Self, _) = reading::take(body)?;
        if version == 1 {
            return Ok((fold, rest));
        }
        let asking = reading::take(rest).map_err(|error| error.after(body, rest));
        asking.map(|(asking, rest)| (fold.with_asking(asking), rest))
    }

    fn is_in(&self, version: u8) -> Result<(), NotInVersion> {
        let not_in = |what| Err(NotInVersion { version, what });
        let devices = match &self.account {
            Account::Active(user) => Some(user.devices.values()),
            Account::Absent | Account::Deleted => None,
        };
        if version == 1
            && devices
                .into_iter()
                .flatten()
                .any(|device| device.inbox.is_of_2())
        {
            return not_in("notice that counts for a provider");
        }
        if version == 1 && self.asking().is_some() {
            return not_in("consent between users");
        }
        Ok(())
    }

    fn write(&self, version: u8, out: Vec<u8>) -> Result<Vec<u8>, Unwritten> {
        self.is_in(version)?;
        let out = postcard::to_extend(self, out)?;
        if version == 1 {
            return Ok(out);
        }
        let nothing = Asking::default();
        Ok(postcard::to_extend(self.asking().unwrap_or(&nothing), out)?)
    }
}

//! The devices of a user, and the one-time codes by which they are enrolled.
//!
//! Promises: a code enrols one device; a client keeps its key until it is revoked. Not here: the proof that a device
//! holds its key, which the door checks first.

use super::{
    Account, Codes, Device, Fold, User,
    asking::Asking,
    budget::Budgets,
    claims::Claims,
    command::{Add, Enrol, Revoke},
    consent::Consents,
    cursors::Membership,
    inbox::Inbox,
    introductions::Introductions,
    last_resort::LastResort,
    outcome::{Answer, Counted, Outcome, Refused},
    pending_adds::PendingAdds,
    spent::Spent,
    stock::Stock,
};
use crate::{
    ids::{ClientUri, RoomUri, UserUri},
    limits::{CLIENTS_PER_USER_MAX, ENROLMENT_CODE_LIFE_MS, ENROLMENT_CODES_PER_USER_MAX},
    machine::{Millis, Moment},
    wire::{
        event::Hash,
        post::{Departed, DepartedWhy},
        version::Level,
    },
};
use std::collections::BTreeMap;

impl Codes {
    fn forget_old(&mut self, time: Millis) {
        self.waiting
            .retain(|(_, issued)| time <= issued.plus(ENROLMENT_CODE_LIFE_MS));
    }

    fn holds(&self, code: Hash) -> bool {
        self.waiting.iter().any(|(waiting, _)| *waiting == code)
    }

    /// Whether a code can still be used.
    fn waits(&self, time: Millis, code: Hash) -> bool {
        let mut fresh = self
            .waiting
            .iter()
            .filter(|(_, issued)| time <= issued.plus(ENROLMENT_CODE_LIFE_MS));
        fresh.any(|(waiting, _)| *waiting == code)
    }

    fn consume(&mut self, code: Hash) {
        self.waiting.retain(|(waiting, _)| *waiting != code);
    }
}

impl Fold {
    pub(super) fn add(&mut self, time: Millis, add: &Add) -> Outcome {
        match &mut self.account {
            Account::Absent => {
                let mut user = User::new(add.user.clone());
                user.codes.waiting.push((add.code, time));
                self.account = Account::Active(Box::new(user));
                Outcome::answer(Answer::Done)
            }
            Account::Active(user) => user.issue(time, add),
            Account::Deleted => Outcome::refused(Refused::Deleted),
        }
    }
}

impl User {
    fn new(uri: UserUri) -> Self {
        Self {
            uri,
            codes: Codes::default(),
            devices: BTreeMap::new(),
            spent: Spent::default(),
            claims: Claims::default(),
            budgets: Budgets::default(),
            pending_adds: PendingAdds::default(),
            consents: Consents::default(),
            introductions: Introductions::default(),
            heard: BTreeMap::new(),
            asking: Asking::default(),
        }
    }

    fn issue(&mut self, time: Millis, add: &Add) -> Outcome {
        if add.user != self.uri {
            debug_assert!(false, "a command for {} reached {}", add.user, self.uri);
            return Outcome::refused(Refused::Unknown);
        }
        self.codes.forget_old(time);
        let used = self.devices.values().any(|device| device.code == add.code);
        if used || self.codes.holds(add.code) {
            return Outcome::answer(Answer::Done);
        }
        if self.codes.waiting.len() >= ENROLMENT_CODES_PER_USER_MAX {
            let what = Counted::EnrolmentCodes;
            return Outcome::refused(Refused::too_many(what, ENROLMENT_CODES_PER_USER_MAX));
        }
        self.codes.waiting.push((add.code, time));
        Outcome::answer(Answer::Done)
    }

    /// Whether an enrolment has a code that waits, or may have used one up before.
    pub(super) fn may_enrol(&self, time: Millis, enrol: &Enrol) -> bool {
        let enrolled = self.devices.get(&enrol.client);
        enrolled.is_some_and(|device| device.key == enrol.device_key)
            || self.codes.waits(time, enrol.code)
    }

    pub(super) fn enrol(&mut self, time: Millis, enrol: &Enrol) -> Outcome {
        let enrolled = self.devices.get(&enrol.client).map(|device| device.key);
        if enrolled == Some(enrol.device_key) {
            // The first answer was lost, and the code went with it.
            return Outcome::answer(Answer::Enrolled);
        }
        self.codes.forget_old(time);
        // Before anything that would tell which clients there are.
        if enrol.client.user() != &self.uri || !self.codes.holds(enrol.code) {
            return Outcome::refused(Refused::NotKnown);
        }
        if enrolled.is_some() {
            return Outcome::refused(Refused::Taken);
        }
        if self.devices.len() >= CLIENTS_PER_USER_MAX {
            return Outcome::refused(Refused::too_many(Counted::Clients, CLIENTS_PER_USER_MAX));
        }
        self.codes.consume(enrol.code);
        let device = Device {
            key: enrol.device_key,
            code: enrol.code,
            stock: Stock::default(),
            last_resort: None,
            inbox: Inbox::default(),
            rooms: BTreeMap::new(),
        };
        self.devices.insert(enrol.client.clone(), device);
        Outcome::answer(Answer::Enrolled)
    }

    pub(super) fn revoke(&mut self, moment: Moment, revoke: &Revoke) -> Outcome {
        let Some(device) = self.devices.remove(&revoke.client) else {
            return Outcome::refused(Refused::NotKnown);
        };
        // Whoever has the device knows the keys of its packages: they must not come back.
        let last_resort = device.last_resort.as_ref().map(LastResort::package);
        for package in device.stock.packages().iter().chain(last_resort) {
            self.spent.add(package);
        }
        self.pending_adds.forget(&revoke.client);
        Outcome {
            woken: vec![revoke.client.clone()],
            departed: device.departs(moment, &revoke.client, DepartedWhy::Revoked),
            ..Outcome::answer(Answer::Done)
        }
    }
}

impl Device {
    /// What the hubs of its rooms are to hear when it is none of the user's any more. Logs of the first level have no word
    /// for it.
    pub(super) fn departs(
        &self,
        moment: Moment,
        client: &ClientUri,
        why: DepartedWhy,
    ) -> Vec<Departed> {
        let is_in = |(_, membership): &(&RoomUri, &Membership)| membership.upto.is_none();
        let rooms = self
            .rooms
            .iter()
            .filter(|_| moment.level >= Level::SECOND)
            .filter(is_in);
        let departed = |(room, _): (&RoomUri, &Membership)| Departed {
            room: room.clone(),
            client: client.clone(),
            why,
        };
        rooms.map(departed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        user::{
            command::Command,
            fold::State,
            testing::{
                KEY, Log, alice, client, code, joined, left, package, packages, post, room, user,
            },
        },
        wire::door::PackageRefused,
    };

    const NOT_KNOWN: Answer = Answer::Refused(Refused::NotKnown);

    #[test]
    fn a_code_enrols_one_device_and_the_same_enrolment_again_is_fine() {
        let mut bobby = Log::bobby(&[]);
        bobby.issue(code(1));
        assert_eq!(bobby.enrol_as("phone", KEY, code(1)), Answer::Enrolled);
        bobby.restart();
        assert_eq!(bobby.enrol_as("phone", KEY, code(1)), Answer::Enrolled);
        assert_eq!(bobby.enrol_as("tablet", KEY, code(1)), NOT_KNOWN);
        assert_eq!(bobby.fold.device_key(&client("phone")), Some(KEY));
        assert_eq!(bobby.fold.clients().collect::<Vec<_>>(), [&client("phone")]);
    }

    #[test]
    fn a_used_code_that_is_issued_again_by_a_retry_stays_used() {
        let mut bobby = Log::bobby(&[]);
        bobby.issue(code(1));
        bobby.enrol_as("phone", KEY, code(1));
        assert_eq!(bobby.issue(code(1)), Answer::Done);
        assert_eq!(bobby.enrol_as("tablet", KEY, code(1)), NOT_KNOWN);
    }

    #[test]
    fn a_client_keeps_its_key() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.issue(code(9));
        let other = [8; 32];
        assert_eq!(
            bobby.enrol_as("phone", other, code(9)),
            Answer::Refused(Refused::Taken)
        );
        // The code was not used up, and without one nothing is told of the client.
        assert_eq!(bobby.enrol_as("phone", other, code(10)), NOT_KNOWN);
        assert_eq!(bobby.enrol_as("tablet", other, code(9)), Answer::Enrolled);
    }

    #[test]
    fn a_code_can_be_used_for_a_day() {
        for (age, expected) in [
            (ENROLMENT_CODE_LIFE_MS, Answer::Enrolled),
            (ENROLMENT_CODE_LIFE_MS + 1, NOT_KNOWN),
        ] {
            let mut bobby = Log::bobby(&[]);
            bobby.issue(code(1));
            bobby.wait(age);
            assert_eq!(bobby.enrol_as("phone", KEY, code(1)), expected);
        }
    }

    #[test]
    fn a_client_of_another_user_cannot_be_enrolled() {
        let mut bobby = Log::bobby(&[]);
        bobby.issue(code(1));
        let client = crate::ids::ClientUri::new(&alice(), "phone").unwrap();
        let enrol = Enrol {
            code: code(1),
            client,
            device_key: KEY,
        };
        assert_eq!(bobby.apply(Command::Enrol(enrol)).answer, NOT_KNOWN);
    }

    #[test]
    fn only_so_many_clients_are_enrolled() {
        let mut bobby = Log::bobby(&[]);
        for number in 0..CLIENTS_PER_USER_MAX {
            bobby.enrol(client(&format!("c{number}")));
        }
        bobby.issue(code(1_000));
        let too_many = Refused::TooMany {
            what: Counted::Clients,
            max: 32,
        };
        assert_eq!(
            bobby.enrol_as("more", KEY, code(1_000)),
            Answer::Refused(too_many)
        );
        bobby.revoke("c0");
        assert_eq!(bobby.enrol_as("more", KEY, code(1_000)), Answer::Enrolled);
    }

    #[test]
    fn only_so_many_codes_wait_and_old_ones_make_room() {
        let mut bobby = Log::bobby(&[]);
        // One waits since the user was added.
        for number in 1..ENROLMENT_CODES_PER_USER_MAX as u64 {
            assert_eq!(bobby.issue(code(number)), Answer::Done);
        }
        let too_many = Refused::TooMany {
            what: Counted::EnrolmentCodes,
            max: 32,
        };
        assert_eq!(bobby.issue(code(1_000)), Answer::Refused(too_many));
        assert_eq!(bobby.issue(code(1)), Answer::Done);
        bobby.wait(ENROLMENT_CODE_LIFE_MS + 1);
        assert_eq!(bobby.issue(code(1_000)), Answer::Done);
    }

    #[test]
    fn nothing_is_left_of_a_revoked_device_but_that_its_packages_are_gone() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.stock("phone", [1]);
        bobby.deliver(post("club", &["phone"], joined(4)));
        let revoked = bobby.apply(Command::Revoke(Revoke {
            client: client("phone"),
        }));
        assert_eq!(revoked.answer, Answer::Done);
        assert_eq!(revoked.woken, [client("phone")]);
        assert_eq!(bobby.fold.device_key(&client("phone")), None);
        assert!(packages(&bobby.claim_plain(1)).is_empty());
        assert_eq!(bobby.revoke("phone"), NOT_KNOWN);

        let other = [8; 32];
        bobby.issue(code(9));
        assert_eq!(bobby.enrol_as("phone", other, code(9)), Answer::Enrolled);
        assert_eq!(bobby.fold.memberships(&client("phone")).count(), 0);
        assert_eq!(bobby.fold.inbox(&client("phone")).count(), 0);
        let again = bobby.upload(&client("phone"), vec![package(1)]);
        assert_eq!(again, [Err(PackageRefused::Duplicate)]);
    }

    #[test]
    fn a_deleted_user_stays_deleted() {
        let mut bobby = Log::bobby(&["phone"]);
        assert_eq!(bobby.fold.state(), State::Active);
        let deleted = bobby.apply(Command::Delete);
        assert_eq!(
            (deleted.answer, deleted.woken),
            (Answer::Done, vec![client("phone")])
        );
        let again = bobby.apply(Command::Delete).answer;
        assert_eq!(again, Answer::Refused(Refused::Deleted));
        assert_eq!(bobby.issue(code(9)), Answer::Refused(Refused::Deleted));
        bobby.restart();
        assert_eq!(bobby.fold.state(), State::Deleted);
        assert_eq!(bobby.fold.clients().count(), 0);
        assert!(!bobby.fold.is_unknown());
    }

    #[test]
    fn of_an_unknown_user_nothing_can_be_asked_but_that_it_be_added() {
        let mut nobody = Log::default();
        let unknown = Answer::Refused(Refused::Unknown);
        assert_eq!(nobody.apply(Command::Delete).answer, unknown);
        assert_eq!(nobody.consent(alice(), None, Some(true)), unknown);
        assert_eq!(nobody.revoke("phone"), unknown);
        assert_eq!(nobody.enrol_as("phone", KEY, code(1)), unknown);
        assert_eq!(nobody.ack("phone", None, &[]).answer, unknown);
        assert!(nobody.fold.is_unknown());
        let add = Add {
            user: user("bobby"),
            code: code(1),
        };
        assert_eq!(nobody.apply(Command::Add(add)).answer, Answer::Done);
        assert_eq!(nobody.enrol_as("phone", KEY, code(1)), Answer::Enrolled);
    }

    /// Bobby, whose phone is in the club and was in the pub, and whose tablet is in the club.
    fn in_rooms(level: Level) -> Log {
        let mut bobby = Log::bobby(&["phone", "tablet"]);
        bobby.level = level;
        bobby.deliver(post("club", &["phone", "tablet"], joined(4)));
        bobby.deliver(post("pub", &["phone"], joined(4)));
        bobby.deliver(post("pub", &["phone"], left(7)));
        bobby
    }

    fn revoke() -> Command {
        Command::Revoke(Revoke {
            client: client("phone"),
        })
    }

    #[test]
    fn hubs_hear_of_the_rooms_that_a_client_which_is_gone_was_in() {
        let departed = |name: &str, why| Departed {
            room: room("club"),
            client: client(name),
            why,
        };
        let mut bobby = in_rooms(Level::SECOND);
        let gone = bobby.apply(revoke()).departed;
        assert_eq!(gone, [departed("phone", DepartedWhy::Revoked)]);
        assert_eq!(bobby.apply(revoke()).departed, []);
        let gone = bobby.apply(Command::Delete).departed;
        assert_eq!(gone, [departed("tablet", DepartedWhy::Deleted)]);
        assert_eq!(bobby.apply(Command::Delete).departed, []);
    }

    #[test]
    fn in_logs_of_the_first_level_hubs_hear_of_nobody() {
        assert_eq!(in_rooms(Level::FIRST).apply(revoke()).departed, []);
        assert_eq!(in_rooms(Level::FIRST).apply(Command::Delete).departed, []);
    }
}

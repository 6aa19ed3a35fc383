//! The small world: what it is at one moment.

use super::{
    Bounds,
    checks::{Broken, Promises, Truth},
    shard::{Order, Shard},
};
use crate::{
    caller::Caller,
    ids::{ClientUri, ProviderId, RoomUri},
    link::session::{Acking, FanoutReceiver, FanoutSender, SubmitSender},
    machine::{Millis, Ticket},
    mls::check::bundle::Bundle,
    record::Command,
    room::{
        desk::{self, Check, Checked},
        follower, follower_desk,
        hub::{Submit, Via},
        outcome::Answer,
    },
    sim::{
        MODEL_EPOCH,
        mls::{self, Intent, Kind, Member},
    },
    user::{
        command::{Add, Claim, Command as UserCommand, Consent, Enrol, Rules, Upload},
        desk as user_desk,
        outcome::Answer as UserAnswer,
    },
    wire::{
        BVec, Payload,
        claim::{ClaimId, ClaimTerms},
        event::{ClientSeq, Epoch, Hash, RoomSeq},
        link::{self, Ack, Fanout, Submitted},
        room,
        tree::TreeContainer,
    },
};
use bytes::Bytes;
use std::{collections::VecDeque, rc::Rc, sync::Arc};

pub(super) const NOW: Millis = MODEL_EPOCH;
pub(super) const A: usize = 0;
pub(super) const B: usize = 1;

/// Names that never change.
pub(super) struct Names {
    pub(super) providers: [ProviderId; 2],
    pub(super) clients: [ClientUri; 2],
    pub(super) room: RoomUri,
    pub(super) carol: ClientUri,
}

/// An answer on its way, or at the lane that waits for it.
#[derive(Clone, Debug)]
pub(super) enum Told {
    Room(Answer),
    User(UserAnswer),
}

#[derive(Clone, Debug)]
pub(super) enum Purpose {
    Commit(Bundle),
    Propose(Bytes),
    Send(Payload, ClientSeq),
    Claim,
}

#[derive(Clone, Debug)]
pub(super) enum Stage {
    Asked,
    AtDesk,
    Answered(Told),
    Lost,
}

/// A request without an answer. A client has one at a time.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) purpose: Purpose,
    pub(super) stage: Stage,
    pub(super) again: bool,
}

/// A member, and the name of what it knows.
pub(super) struct Known {
    member: Member,
    pub(super) hash: Hash,
}

impl Known {
    pub(super) fn new(member: Member) -> Rc<Self> {
        let hash = Hash::of(format!("{member:?}").as_bytes());
        Rc::new(Self { member, hash })
    }
}

impl std::ops::Deref for Known {
    type Target = Member;

    fn deref(&self) -> &Member {
        &self.member
    }
}

#[derive(Clone)]
pub(super) struct Client {
    pub(super) member: Rc<Known>,
    pub(super) request: Option<Rc<Request>>,
    pub(super) staged: Option<Bytes>,
    pub(super) next: RoomSeq,
    /// The last epoch in which it made a Commit.
    pub(super) tried: Option<Epoch>,
    pub(super) commits: u8,
    pub(super) proposals: u8,
    pub(super) messages: u8,
    pub(super) claimed: bool,
    pub(super) package: Option<Payload>,
    pub(super) removed: bool,
}

/// The lane that carries events to the follower.
#[derive(Clone)]
pub(super) struct Fan {
    pub(super) sender: FanoutSender,
    pub(super) taken: FanoutReceiver,
    pub(super) batches: VecDeque<Rc<Fanout>>,
    /// Batches at the follower's desk, and its answer.
    pub(super) here: VecDeque<(Acking, Ticket, Option<Answer>)>,
    pub(super) acks: VecDeque<Ack>,
}

/// A frame at the hub: who waits for each group, and what it was told.
type Judged = (link::Submit, Vec<(Ticket, Option<Answer>)>);

/// The lane that carries submissions to the hub.
#[derive(Clone, Default)]
pub(super) struct Sub {
    pub(super) sender: SubmitSender,
    pub(super) frames: VecDeque<Rc<link::Submit>>,
    /// Frames at the hub's desk: who waits for each group, and what it was told.
    pub(super) here: VecDeque<Rc<Judged>>,
    pub(super) answers: VecDeque<Submitted>,
}

/// What came up, as bits of the states in which it did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Signs {
    pub(super) contested: bool,
    pub(super) before_sync: bool,
    pub(super) before_answer: bool,
    pub(super) claim_again: bool,
    pub(super) batch_again: bool,
    pub(super) gap: bool,
    pub(super) submission_again: bool,
    pub(super) refused_after_leaving: bool,
    pub(super) proposal_again: bool,
}

#[derive(Clone)]
pub(super) struct World {
    pub(super) names: Rc<Names>,
    pub(super) shards: [Rc<Shard>; 2],
    pub(super) truths: [Rc<Truth>; 2],
    pub(super) clients: [Client; 2],
    /// Checks that workers make.
    pub(super) checks: Vec<(Ticket, Rc<Check>)>,
    pub(super) fan: Option<Fan>,
    pub(super) sub: Option<Sub>,
    pub(super) promises: Rc<Promises>,
    /// The faults and acknowledgements that may still come.
    pub(super) left: Bounds,
    /// What the step that led here was an occasion for.
    pub(super) signs: Signs,
}

/// Names are constants: one that is wrong is a bug of the world.
fn named<T: std::str::FromStr>(name: &str) -> T {
    match name.parse() {
        Ok(named) => named,
        Err(_) => unreachable!("{name} is a name"),
    }
}

pub(super) fn copy_of(member: &Member) -> Member {
    match member {
        Member::Model(member) => Member::Model(member.clone()),
        Member::Real(_) => unreachable!("the small world plays the model"),
    }
}

/// A check can be made again, so that a desk can be told its result again.
fn check_again(hub: &ProviderId, check: &Check) -> Checked {
    mls::check(Kind::Model, hub, check.clone())
}

impl World {
    /// The room at epoch 1, with both members, and one KeyPackage of Carol's.
    pub(super) fn new(bounds: &Bounds) -> Result<Self, Broken> {
        let names = Names {
            providers: [named("a.example"), named("b.example")],
            clients: [
                named("mimi://a.example/d/alice/phone"),
                named("mimi://b.example/d/bob/phone"),
            ],
            room: named("mimi://a.example/r/room"),
            carol: named("mimi://a.example/d/carol/phone"),
        };
        let [mut alice, mut bob] =
            [0, 1].map(|n| Member::new(Kind::Model, &names.clients[n], n as u64 + 1));
        let mut carol = Member::new(Kind::Model, &names.carol, 3);
        let package = carol.key_package(NOW);
        let packages = vec![mls::check_package(Kind::Model, &package, &names.carol, NOW)];
        let bob_package = bob.key_package(NOW);
        let (group_info, tree) = alice.found(&names.room);
        let intent = Intent {
            add: vec![bob_package],
            ..Intent::default()
        };
        let bundle = alice.commit(&names.room, &intent);
        let (Some(bundle), Ok(_)) = (bundle, alice.confirm(&names.room)) else {
            return Err(("setup", "the first Commit cannot be made".to_owned()));
        };
        let client = |member| Client {
            member: Known::new(member),
            request: None,
            staged: None,
            next: RoomSeq(2),
            tried: None,
            commits: 0,
            proposals: 0,
            messages: 0,
            claimed: false,
            package: None,
            removed: false,
        };
        let welcome = bundle.welcome.clone().unwrap_or_default();
        if let Err(why) = bob.join(
            &names.room,
            &welcome,
            &Bytes::copy_from_slice(bundle.tree.carried()),
        ) {
            return Err(("setup", why));
        }
        let mut world = Self {
            clients: [client(alice), client(bob)],
            names: Rc::new(names),
            shards: Default::default(),
            truths: Default::default(),
            checks: Vec::new(),
            fan: None,
            sub: None,
            promises: Rc::default(),
            left: *bounds,
            signs: Signs::default(),
        };
        world.set_up(packages, group_info, tree, bundle)?;
        Ok(world)
    }

    fn set_up(
        &mut self,
        packages: Vec<
            Result<crate::user::command::StoredPackage, crate::wire::door::PackageRefused>,
        >,
        group_info: Bytes,
        tree: Bytes,
        bundle: Bundle,
    ) -> Result<(), Broken> {
        let names = Rc::clone(&self.names);
        let (user, code) = (names.carol.user(), Hash::of(b"code"));
        let mut commands = vec![
            UserCommand::Add(Add {
                user: user.clone(),
                code,
            }),
            UserCommand::Enrol(Enrol {
                code,
                client: names.carol.clone(),
                device_key: code.0,
            }),
            UserCommand::Upload(Upload {
                client: names.carol.clone(),
                packages,
            }),
        ];
        commands.extend(names.clients.iter().map(|client| {
            UserCommand::Consent(Consent {
                requester: client.user().clone().into(),
                room: None,
                grant: Some(true),
            })
        }));
        let shard = Rc::make_mut(&mut self.shards[A]);
        for command in commands {
            shard.queue_user(user, &Arc::new(command), None);
        }
        self.all_in(A)?;
        let creator = names.clients[A].clone();
        let beginning = room::Request::Create(room::Beginning {
            group_info: Payload(group_info),
            tree: TreeContainer::Full(Payload(tree)),
        });
        self.ask_hub(Ticket(9), creator, beginning)?;
        self.checked(0)?;
        self.all_in(A)?;
        let sender = names.clients[A].clone();
        Rc::make_mut(&mut self.promises).sends(&bundle.commit);
        self.ask_hub(Ticket(9), sender, room::Request::Commit(bundle))?;
        self.checked(0)?;
        self.all_in(A)?;
        self.send_batch()?;
        self.batch_arrives(false)?;
        self.all_in(B)?;
        self.answer_batch();
        self.ack_arrives()?;
        self.record_ack();
        self.all_in(A)
    }

    /// Takes what waits into the log, syncs and applies it.
    pub(super) fn all_in(&mut self, at: usize) -> Result<(), Broken> {
        let shard = Rc::make_mut(&mut self.shards[at]);
        shard.append(NOW);
        shard.synced = shard.len();
        self.apply(at)
    }

    pub(super) fn apply(&mut self, at: usize) -> Result<(), Broken> {
        let (shard, truth) = (
            Rc::make_mut(&mut self.shards[at]),
            std::cell::RefCell::new(Rc::make_mut(&mut self.truths[at])),
        );
        let promises = Rc::make_mut(&mut self.promises);
        let mut broken = Ok(());
        let orders = shard.apply(
            NOW,
            |shard, _| truth.borrow_mut().before(shard.hub.fold()),
            |command, seen| {
                let held = truth.borrow_mut().after(promises, command, seen);
                if broken.is_ok() {
                    broken = held;
                }
            },
        );
        broken?;
        self.signs.contested |= std::mem::take(&mut Rc::make_mut(&mut self.truths[at]).contested);
        orders
            .into_iter()
            .try_for_each(|order| self.order(at, order))
    }

    fn order(&mut self, at: usize, order: Order) -> Result<(), Broken> {
        let names = Rc::clone(&self.names);
        let shard = Rc::make_mut(&mut self.shards[at]);
        match order {
            Order::Hub(desk::Effect::Append { ticket, command }) => {
                shard.queue_hub(&names.room, &command, Some(ticket));
            }
            Order::Hub(desk::Effect::Own(desk::Own::Check { ticket, check })) => {
                self.checks.push((ticket, Rc::from(check)));
            }
            // Nobody joins by itself in the small world, and nobody is introduced.
            Order::Hub(desk::Effect::Own(
                desk::Own::Wake { .. } | desk::Own::CodeRefused { .. },
            ))
            | Order::User(user_desk::Effect::Own(user_desk::Own::Draw { .. })) => {}
            // Nor waits for a verdict.
            Order::Follower(follower_desk::Effect::Own(follower_desk::Own::Wake { .. })) => {}
            Order::Follower(follower_desk::Effect::Append { ticket, command }) => {
                let command = Command::Follower(names.room.clone(), command);
                shard.queue.push((command, Some(ticket)));
            }
            Order::User(user_desk::Effect::Append { ticket, command }) => {
                shard.queue_user(names.carol.user(), &command, Some(ticket));
            }
            Order::Hub(desk::Effect::Answer { ticket, answer })
            | Order::Follower(follower_desk::Effect::Answer { ticket, answer }) => {
                return self.answered(at, ticket, Told::Room(answer));
            }
            Order::User(user_desk::Effect::Answer { ticket, answer }) => {
                return self.answered(at, ticket, Told::User(answer));
            }
        }
        Ok(())
    }

    /// An answer leaves an actor: from now on it is a promise.
    fn answered(&mut self, at: usize, ticket: Ticket, told: Told) -> Result<(), Broken> {
        if let Some(fan) = &mut self.fan
            && at == B
            && let Some(here) = fan.here.iter_mut().find(|here| here.1 == ticket)
        {
            if let Told::Room(answer) = told {
                self.signs.gap |= matches!(answer, Answer::Gap { .. });
                here.2 = Some(answer);
            }
            return Ok(());
        }
        if let Some(sub) = &mut self.sub
            && at == A
        {
            for frame in &mut sub.here {
                let place = frame.1.iter().position(|(waits, _)| *waits == ticket);
                if let (Some(place), Told::Room(answer)) = (place, &told) {
                    let (batch, mut groups) = (**frame).clone();
                    groups[place].1 = Some(answer.clone());
                    *frame = Rc::new((batch, groups));
                    return Ok(());
                }
            }
        }
        let Some(who) = [0, 1]
            .into_iter()
            .find(|who| Ticket(1 + *who as u64) == ticket)
        else {
            return Ok(());
        };
        let Some(request) = &mut self.clients[who].request else {
            return Ok(());
        };
        let promises = Rc::make_mut(&mut self.promises);
        match (&request.purpose, &told) {
            (Purpose::Commit(bundle), Told::Room(answer)) => {
                promises.commit(&bundle.commit, answer)?
            }
            (Purpose::Send(message, _), Told::Room(answer)) => {
                promises.sent(who, message, answer)?;
            }
            (Purpose::Claim, Told::User(answer)) => promises.claim(who as u8, answer)?,
            (Purpose::Propose(bytes), Told::Room(Answer::Refused(_))) => {
                promises.refused(bytes)?;
            }
            (Purpose::Propose(_), Told::Room(Answer::Proposed(_))) => {
                self.signs.proposal_again |= request.again;
            }
            _ => {}
        }
        Rc::make_mut(request).stage = Stage::Answered(told);
        Ok(())
    }

    pub(super) fn hub_input(
        &mut self,
        input: impl Fn() -> desk::Input + 'static,
    ) -> Result<(), Broken> {
        let out = Rc::make_mut(&mut self.shards[A]).hub.handle(NOW, input);
        out.into_iter()
            .try_for_each(|order| self.order(A, Order::Hub(order)))
    }

    pub(super) fn follower_input(
        &mut self,
        input: impl Fn() -> follower_desk::Input + 'static,
    ) -> Result<(), Broken> {
        let out = Rc::make_mut(&mut self.shards[B])
            .follower
            .handle(NOW, input);
        out.into_iter()
            .try_for_each(|order| self.order(B, Order::Follower(order)))
    }

    /// A client asks the hub's room.
    fn ask_hub(
        &mut self,
        ticket: Ticket,
        client: ClientUri,
        request: room::Request,
    ) -> Result<(), Broken> {
        let caller = Caller::of(client);
        self.hub_input(move || desk::Input::Ask {
            ticket,
            caller: caller.clone(),
            request: request.clone(),
        })
    }

    /// A worker finishes a check.
    pub(super) fn checked(&mut self, place: usize) -> Result<(), Broken> {
        let (ticket, check) = self.checks.remove(place);
        let hub = self.names.room.hub().clone();
        self.hub_input(move || desk::Input::Checked {
            ticket,
            checked: Box::new(check_again(&hub, &check)),
        })
    }

    /// A request of a client reaches the actor that it is for.
    pub(super) fn request_arrives(&mut self, who: usize) -> Result<(), Broken> {
        let Some(request) = &mut self.clients[who].request else {
            return Ok(());
        };
        let request = Rc::make_mut(request);
        request.stage = Stage::AtDesk;
        let (ticket, sender) = (Ticket(1 + who as u64), self.names.clients[who].clone());
        match request.purpose.clone() {
            Purpose::Commit(bundle) => self.ask_hub(ticket, sender, room::Request::Commit(bundle)),
            Purpose::Propose(message) => {
                let proposals = BVec::from([Payload(message)]);
                self.ask_hub(ticket, sender, room::Request::Propose(proposals))
            }
            Purpose::Send(message, first) if who == A => {
                let submit = Submit {
                    sender,
                    via: Via::Client(first),
                    messages: BVec::from([message]),
                };
                self.hub_input(move || desk::Input::Submit {
                    ticket,
                    submit: submit.clone(),
                })
            }
            Purpose::Send(message, first) => {
                let queue = follower::Queue {
                    sender,
                    first,
                    messages: BVec::from([message]),
                };
                self.follower_input(move || follower_desk::Input::Queue {
                    ticket,
                    queue: queue.clone(),
                })
            }
            Purpose::Claim => {
                self.signs.claim_again |= request_again(&self.clients[who]);
                let claim = Claim {
                    id: ClaimId([who as u8; 16]),
                    peer: self.names.providers[who].clone(),
                    hub: self.names.providers[who].clone(),
                    terms: ClaimTerms::new(sender.user().clone()),
                    body: Hash::of(&[who as u8]),
                    rules: Rules::default(),
                    over_ms: None,
                };
                let command = Arc::new(UserCommand::Claim(claim));
                let shard = Rc::make_mut(&mut self.shards[A]);
                let out = shard.user.handle(NOW, move || user_desk::Input::Ask {
                    ticket,
                    command: Arc::clone(&command),
                });
                out.into_iter()
                    .try_for_each(|order| self.order(A, Order::User(order)))
            }
        }
    }

    /// A ticket that nobody waits with.
    pub(super) fn ticket(&self, at: usize) -> Ticket {
        let used = |ticket: Ticket| {
            self.shards[at].has_ticket(ticket)
                || self
                    .fan
                    .iter()
                    .flat_map(|fan| &fan.here)
                    .any(|here| here.1 == ticket)
                || self
                    .sub
                    .iter()
                    .flat_map(|sub| &sub.here)
                    .any(|frame| frame.1.iter().any(|(waits, _)| *waits == ticket))
        };
        let mut ticket = Ticket(10);
        while used(ticket) {
            ticket.0 += 1;
        }
        ticket
    }
}

/// Whether the request of a client is a retry.
fn request_again(client: &Client) -> bool {
    client.request.as_ref().is_some_and(|request| request.again)
}

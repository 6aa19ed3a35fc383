//! The clients of `tests/power-loss`: they load the nodes that the script runs, survive their power losses, and record
//! all.
//!
//! The script says on standard input what comes next (`load`, `cut` and `back` with the names of nodes, `end`); each is answered by one line that
//! begins with `clients:`. Ignored on its own: it needs the script, which needs root.

use crate::support::{
    WAIT, client,
    history::{Chronicle, Watched},
    room,
};
use futures::future::join_all;
use mimi_actors::ids::RoomUri;
use mimi_client::member::{Member, MemberError, new_claim_id};
use mimi_history::{Fault, Phase};
use mimi_operator::{
    ask::ask,
    protocol::{Request, Response},
};
use mimi_quic::DoorDialer;
use mimi_stage::cast::enrolled;
use std::{
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};

const PROVIDER: &str = "a.example";
/// Rooms, each with two devices and a task of its own: what the node syncs together.
const ROOMS: usize = 8;
/// How long a device waits before it comes back.
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// Messages that a device sends at once.
const BATCH: usize = 8;

/// Pairs of Commits that wait for their answers.
static COMMITS_UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// How many operations were acknowledged.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    messages: usize,
    commits: usize,
    claims: usize,
}

/// Where the nodes are, as the script says.
struct Place {
    dir: PathBuf,
    sockets: Vec<PathBuf>,
    doors: Vec<SocketAddr>,
    dialer: DoorDialer,
}

impl Place {
    fn told() -> Self {
        let told = |name: &str| {
            std::env::var(name).unwrap_or_else(|_| panic!("{name} is set by tests/power-loss"))
        };
        let dir = PathBuf::from(told("POWER_LOSS_DIR"));
        let doors = told("POWER_LOSS_DOORS");
        let sockets = told("POWER_LOSS_SOCKETS");
        Self {
            sockets: sockets.split(' ').map(PathBuf::from).collect(),
            doors: doors.split(' ').map(|door| door.parse().unwrap()).collect(),
            dialer: DoorDialer::new(&dir.join("ca.crt")).unwrap(),
            dir,
        }
    }

    /// The doors, beginning with another one for each number.
    fn doors(&self, number: usize) -> Vec<SocketAddr> {
        let mut doors = self.doors.clone();
        doors.rotate_left(number % self.doors.len());
        doors
    }

    fn socket(&self, number: usize) -> &Path {
        &self.sockets[number % self.sockets.len()]
    }

    async fn member(&self, name: &str, number: usize) -> Member {
        let user = name.to_owned();
        let added = ask(self.socket(number), &Request::AddUser { user }).await;
        let Ok(Response::UserAdded { enrolment_code, .. }) = added else {
            panic!("{added:?}");
        };
        // Without a state file: it is the node's disk that is lost, and devices would sync on the same one.
        let who = (client(name, "1", PROVIDER), &*enrolment_code);
        let member = enrolled(&self.dialer, self.doors(number)[0], who, None);
        member.await.unwrap()
    }
}

/// A room and its two devices, which come in by different nodes where there are some.
struct Den {
    number: usize,
    room: RoomUri,
    first: Watched,
    second: Watched,
    turns: usize,
    said: usize,
    figures: Figures,
}

impl Den {
    async fn open(place: &Place, chronicle: &Chronicle, number: usize) -> Self {
        let room = room(&format!("den-{number}"), PROVIDER);
        let first = place.member(&format!("x{number}"), number).await;
        let mut second = place.member(&format!("y{number}"), number + 1).await;
        let user = format!("y{number}");
        let consent = Request::Consent {
            user,
            requester: first.client().user().clone().into(),
            room: None,
            grant: Some(true),
        };
        assert_eq!(
            ask(place.socket(number), &consent).await.unwrap(),
            Response::Done
        );
        second.upload(1).await.unwrap();
        let mut first = chronicle.watch(first, PROVIDER);
        let mut second = chronicle.watch(second, PROVIDER);
        first.create_room(&room).await.unwrap();
        let added = [second.member.client().clone()];
        let users = [added[0].user().clone()];
        let claimed = first.claim(new_claim_id().unwrap(), &room, &users).await;
        first.add(&room, &claimed.unwrap(), &added).await;
        second
            .read_until("its Welcome", |member| member.epoch(&room).is_some())
            .await;
        Self {
            number,
            room,
            first,
            second,
            turns: 0,
            said: 0,
            figures: Figures::default(),
        }
    }

    /// Works until it is told to end; comes back after each power loss.
    async fn run(mut self, place: &Place, going: watch::Receiver<bool>) -> Self {
        while *going.borrow() {
            if self.turn().await.is_err() {
                // A power loss, or a leader that is new: what is undecided is asked again, of any node that answers.
                tokio::time::sleep(RETRY_AFTER).await;
                self.reconnect(place).await;
            }
        }
        self
    }

    async fn reconnect(&mut self, place: &Place) {
        let devices = [&mut self.first, &mut self.second];
        for (number, device) in (self.number..).zip(devices) {
            let doors = place.doors(number);
            device.reconnect_any(&place.dialer, &doors, 3 * WAIT).await;
        }
    }

    /// Messages both ways, two Commits at once, and a claim that is made twice.
    async fn turn(&mut self) -> Result<(), MemberError> {
        self.catch_up().await?;
        self.turns += 1;
        let texts: Vec<_> = (0..BATCH)
            .map(|place| format!("{} {place}", self.turns))
            .collect();
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        self.said += 2 * BATCH;
        let sent = futures::join!(
            self.first.send(&self.room, &texts),
            self.second.send(&self.room, &texts)
        );
        for sent in [sent.0, sent.1] {
            self.figures.messages += sent.map(|()| BATCH)?;
        }
        self.contest().await?;
        self.claim().await
    }

    async fn contest(&mut self) -> Result<(), MemberError> {
        let mine = self.first.member.prepare_update(&self.room)?;
        let theirs = self.second.member.prepare_update(&self.room)?;
        COMMITS_UNDER_WAY.fetch_add(1, Ordering::SeqCst);
        let committed = futures::join!(
            self.first.commit(&mine, &[], &[]),
            self.second.commit(&theirs, &[], &[])
        );
        COMMITS_UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
        for committed in [committed.0, committed.1] {
            match committed {
                Ok(_) => self.figures.commits += 1,
                Err(MemberError::Lost { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.catch_up().await
    }

    async fn claim(&mut self) -> Result<(), MemberError> {
        self.second.member.upload(1).await?;
        let users = [self.second.member.client().user().clone()];
        let id = new_claim_id()?;
        for _ in 0..2 {
            self.first.claim(id, &self.room, &users).await?;
        }
        self.figures.claims += 1;
        Ok(())
    }

    /// Decides what is undecided, and reads until both devices are in one epoch.
    async fn catch_up(&mut self) -> Result<(), MemberError> {
        for one in [&mut self.first, &mut self.second] {
            if let Some(pending) = one.member.pending_commit(&self.room).cloned() {
                match one.commit(&pending, &[], &[]).await {
                    Ok(_) => self.figures.commits += 1,
                    Err(MemberError::Lost { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            while one.pump(Duration::ZERO).await? {}
        }
        let deadline = Instant::now() + WAIT;
        let epochs = |den: &Self| {
            let of = |one: &Watched| one.member.epoch(&den.room);
            (of(&den.first), of(&den.second))
        };
        while epochs(self).0 != epochs(self).1 && Instant::now() < deadline {
            let behind = if epochs(self).0 < epochs(self).1 {
                &mut self.first
            } else {
                &mut self.second
            };
            behind.pump(Duration::from_millis(100)).await?;
        }
        Ok(())
    }

    /// Reads all there is; what never comes is for the judge to say.
    async fn read_all(&mut self, place: &Place) {
        self.reconnect(place).await;
        let deadline = Instant::now() + WAIT;
        let (room, said) = (self.room.clone(), self.said);
        let all = |one: &Watched| {
            one.member.received(&room).len() == said && one.member.unresolved(&room).is_empty()
        };
        let even =
            |den: &Self| den.first.member.last_seq(&room) == den.second.member.last_seq(&room);
        while !(all(&self.first) && all(&self.second) && even(self)) && Instant::now() < deadline {
            for one in [&mut self.first, &mut self.second] {
                drop(one.pump(Duration::from_millis(50)).await);
            }
        }
    }
}

/// Answers the script.
fn say(text: &str) {
    println!("clients: {text}");
    std::io::stdout().flush().unwrap();
}

/// What the script says, line by line.
fn script() -> mpsc::Receiver<String> {
    let (said, script) = mpsc::channel(1);
    // Ends with the process, or with the script.
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if said.blocking_send(line).is_err() {
                return;
            }
        }
    });
    script
}

async fn next(script: &mut mpsc::Receiver<String>) -> String {
    let line = script.recv().await;
    line.expect("the script says `end` before it goes")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "driven by tests/power-loss, which needs root"]
async fn clients_of_nodes_that_lose_their_power() {
    let place = Place::told();
    let chronicle = Chronicle::create(Path::new(&place.dir).join("history"));
    let dens = (0..ROOMS).map(|number| Den::open(&place, &chronicle, number));
    let dens = join_all(dens).await;
    let mut script = script();
    say("ready");
    assert_eq!(next(&mut script).await, "load");
    let going = watch::Sender::new(true);
    let dens = dens
        .into_iter()
        .map(|den| den.run(&place, going.subscribe()));
    let conduct = async {
        say("loading");
        loop {
            let line = next(&mut script).await;
            let mut words = line.split(' ');
            let phase = match words.next() {
                Some("cut") => Phase::Start,
                Some("back") => Phase::Stop,
                Some("commits") => {
                    say(&COMMITS_UNDER_WAY.load(Ordering::SeqCst).to_string());
                    continue;
                }
                Some("end") => break,
                _ => panic!("the script said {line}"),
            };
            let nodes: Vec<_> = words.collect();
            chronicle.nemesis(Fault::PowerLoss, &nodes, phase);
            say("noted");
        }
        going.send_replace(false);
    };
    let (mut dens, ()) = futures::join!(join_all(dens), conduct);
    join_all(dens.iter_mut().map(|den| den.read_all(&place))).await;
    let mut sum = Figures::default();
    for den in &dens {
        sum.messages += den.figures.messages;
        sum.commits += den.figures.commits;
        sum.claims += den.figures.claims;
    }
    let Figures {
        messages,
        commits,
        claims,
    } = sum;
    say(&format!(
        "{messages} messages, {commits} Commits, {claims} claims acknowledged"
    ));
}

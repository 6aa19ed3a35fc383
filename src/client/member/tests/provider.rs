//! A provider of one room, in one process and without any check of MLS: enough of a door for members to talk through.

mod state;

use super::*;
use mimi_actors::wire::{
    door,
    door::{Acks, DoorRefused, Events, Open, Reply, Request, Sent},
};
use mimi_quic::{Door, DoorDialer, DoorEndpoint, Identity, LaneReceiver, LaneSender, OfAddresses};
use ring::signature::{ED25519, UnparsedPublicKey};
use state::State;
use std::{
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::Mutex,
};
use tokio::sync::watch;

const FRAME_MAX: usize = 5 << 20;

/// A running provider.
pub(super) struct Provider {
    pub(super) address: SocketAddr,
    pub(super) dialer: DoorDialer,
    shared: Arc<Shared>,
    _directory: tempfile::TempDir,
}

struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

impl Provider {
    pub(super) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (identity, ca) = pki(directory.path());
        let endpoint = DoorEndpoint::bind(
            (Ipv4Addr::LOCALHOST, 0).into(),
            &identity,
            OfAddresses::default(),
        )
        .unwrap();
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: watch::channel(0).0,
        });
        let provider = Self {
            address: endpoint.local_address().unwrap(),
            dialer: DoorDialer::new(&ca).unwrap(),
            shared: shared.clone(),
            _directory: directory,
        };
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(serve(shared.clone(), incoming.establish().await.unwrap()));
            }
        });
        provider
    }

    pub(super) fn cut_the_next_answer(&self) {
        self.shared.state.lock().unwrap().cut = true;
    }

    /// Waits until the client has acknowledged all of this.
    pub(super) async fn until_acked(&self, client: &ClientUri, all: (InboxSeq, RoomSeq)) {
        let mut changed = self.shared.changed.subscribe();
        let acked = || {
            let state = self.shared.state.lock().unwrap();
            state.acked.get(client).copied()
        };
        while acked() != Some(all) {
            let change =
                tokio::time::timeout(std::time::Duration::from_secs(20), changed.changed());
            change.await.unwrap().unwrap();
        }
    }

    /// Connects and enrols a member.
    pub(super) async fn admit(&self, member: &mut Member) {
        member.connect(&self.dialer, self.address).await.unwrap();
        member.enrol("welcome").await.unwrap();
    }
}

fn pki(directory: &Path) -> (Identity, std::path::PathBuf) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    let certificate = leaf.signed_by(&key, &issuer).unwrap();
    let write = |name: &str, text: String| {
        use std::io::Write as _;
        let path = directory.join(name);
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
        path
    };
    let chain = write("chain.pem", certificate.pem());
    let key = write("key.pem", key.serialize_pem());
    let identity = Identity::load(&chain, &key).unwrap();
    (identity, write("ca.pem", ca_certificate.pem()))
}

async fn read<T: wire::Versioned>(lane: &mut LaneReceiver) -> Option<T> {
    let frame = lane.next(FRAME_MAX, None).await.ok()??;
    Some(wire::decode(&frame).unwrap())
}

async fn write<T: wire::Versioned>(lane: &mut LaneSender, frame: &T) {
    drop(lane.write(frame).await);
}

async fn serve(shared: Arc<Shared>, door: Door) {
    let client: Arc<Mutex<Option<ClientUri>>> = Arc::default();
    while let Ok((sender, receiver)) = door.accept_lane().await {
        let lane = Lane {
            shared: shared.clone(),
            door: door.clone(),
            client: client.clone(),
            sender,
            receiver,
        };
        tokio::spawn(lane.run());
    }
}

struct Lane {
    shared: Arc<Shared>,
    door: Door,
    client: Arc<Mutex<Option<ClientUri>>>,
    sender: LaneSender,
    receiver: LaneReceiver,
}

impl Lane {
    async fn run(mut self) {
        let Some(open) = read(&mut self.receiver).await else {
            return;
        };
        match open {
            Open::Request(request) => {
                let reply = self.request(*request);
                self.shared.changed.send_modify(|version| *version += 1);
                write(&mut self.sender, &reply).await;
            }
            Open::Sends => self.sends().await,
            Open::Events(_) => self.events().await,
        }
    }

    fn client(&self) -> Option<ClientUri> {
        self.client.lock().unwrap().clone()
    }

    fn request(&self, request: Request) -> Reply {
        let mut state = self.shared.state.lock().unwrap();
        match request {
            Request::Enrol(enrol) => {
                if &*enrol.code != "welcome" {
                    return Reply::Refused(DoorRefused::NotKnown);
                }
                state.devices.insert(enrol.client.clone(), enrol.device_key);
                self.prove(&state, enrol.client, &enrol.proof)
            }
            Request::Login(login) => self.prove(&state, login.client, &login.proof),
            Request::HubSender
            | Request::Upload(_)
            | Request::Claim(_)
            | Request::Room(..)
            | Request::Verdicts(_)
            | Request::User(_)
            | Request::Resolve { .. } => match self.client() {
                Some(client) => state.request(&client, request),
                None => Reply::Refused(DoorRefused::NotLoggedIn),
            },
        }
    }

    fn prove(&self, state: &State, client: ClientUri, proof: &[u8]) -> Reply {
        let context = client.to_string();
        let exported = self
            .door
            .exporter(door::EXPORTER_LABEL, context.as_bytes())
            .unwrap();
        let known = state.devices.get(&client).is_some_and(|key| {
            UnparsedPublicKey::new(&ED25519, key)
                .verify(&door::proof_input(&client, &exported), proof)
                .is_ok()
        });
        if !known {
            return Reply::Refused(DoorRefused::NotKnown);
        }
        *self.client.lock().unwrap() = Some(client);
        Reply::LoggedIn
    }

    async fn sends(mut self) {
        let client = self.client().unwrap();
        while let Some(frame) = read::<Send>(&mut self.receiver).await {
            let (room, first) = (frame.room.clone(), frame.first);
            let (runs, cut) = {
                let mut state = self.shared.state.lock().unwrap();
                let runs = state.send(&client, frame);
                (runs, std::mem::take(&mut state.cut))
            };
            if cut {
                self.door.close(1, "cut");
                return;
            }
            self.shared.changed.send_modify(|version| *version += 1);
            let answer = Ok(Answer::Sent(runs.try_into().unwrap()));
            write(
                &mut self.sender,
                &Sent {
                    room,
                    first,
                    answer,
                },
            )
            .await;
        }
    }

    async fn events(mut self) {
        let client = self.client().unwrap();
        let mut changed = self.shared.changed.subscribe();
        let (mut inbox, mut seq) = {
            let state = self.shared.state.lock().unwrap();
            state.acked.get(&client).copied().unwrap_or_default()
        };
        loop {
            let items = {
                let state = self.shared.state.lock().unwrap();
                state.items(&client, &mut inbox, &mut seq)
            };
            if !items.is_empty() {
                let items = items.try_into().unwrap();
                write(&mut self.sender, &Events { items }).await;
            }
            tokio::select! {
                acks = read::<Acks>(&mut self.receiver) => {
                    let Some(acks) = acks else { return };
                    self.shared.state.lock().unwrap().ack(&client, acks);
                    self.shared.changed.send_modify(|version| *version += 1);
                }
                waked = changed.changed() => if waked.is_err() { return },
            }
        }
    }
}

//! A follower that does what a test tells it: a QUIC server with a provider's certificate, and no node behind it.

use super::raw;
use mimi_actors::{
    ids::{RoomUri, UserUri},
    link::session::FanoutReceiver,
    wire::{
        self, BText, BVec, Payload, Versioned,
        claim::{ClaimResponse, ClaimedClient, ClaimedUser, ClientRefused},
        event::{Item, LinkSeq},
        link::{Ack, Fanout, Hello, Open, Reply, Request, RoomRefused},
    },
};
use mimi_client::member::Member;
use mimi_quic::LINK_ALPN;
use quinn::{Connection, Endpoint, RecvStream, SendStream, crypto::rustls::QuicServerConfig};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// How a follower breaks a fan-out lane when a batch comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// It resets the lane.
    Resets,
    /// It sends bytes that are no acknowledgement.
    Garbage,
    /// It acknowledges what was never sent.
    AcksAhead,
    /// It goes back behind what it acknowledged.
    AcksBack,
}

/// How the follower behaves, and what it has seen.
#[derive(Default)]
pub struct Script {
    /// Rooms whose events it refuses.
    pub refuses: BTreeSet<RoomUri>,
    /// Payload bytes that it allows in each acknowledgement.
    pub credit_bytes: u32,
    /// It acknowledges nothing while this is so.
    pub holds: bool,
    /// It takes no batch, and says when to come again.
    pub retry_after_ms: Option<u32>,
    /// It breaks every lane on which a batch comes.
    pub breaks: Option<Break>,
    /// How many lanes it broke.
    pub broken: usize,
    /// KeyPackages of its clients, handed out in turn.
    pub packages: BTreeMap<UserUri, Vec<ClaimedClient>>,
    /// Numbers of the events that it took, by room.
    pub taken: BTreeMap<RoomUri, Vec<u64>>,
    /// Rooms of which something came while it was refused.
    pub refused: BTreeMap<RoomUri, usize>,
    /// Users of each claim that it was asked for.
    pub claims: Vec<Vec<UserUri>>,
    /// Everything that it took, in the order in which it came.
    pub items: Vec<(RoomUri, Item)>,
    /// When fan-out lanes were opened.
    pub lanes: Vec<Instant>,
    /// Batches that came and were not acknowledged.
    pub under_way: usize,
}

/// The follower, until it is dropped.
pub struct Follower {
    script: Arc<Mutex<Script>>,
    released: Arc<Notify>,
    endpoint: Endpoint,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.endpoint.close(0_u32.into(), b"the test is over");
    }
}

impl Follower {
    /// Listens at `address` as the provider whose certificate and key are in `dir`.
    pub fn start(dir: &Path, provider: &str, address: SocketAddr) -> Self {
        let endpoint = Endpoint::server(config(dir, provider), address).unwrap();
        let script = Arc::new(Mutex::new(Script {
            credit_bytes: 1 << 20,
            ..Script::default()
        }));
        let follower = Self {
            script: Arc::clone(&script),
            released: Arc::default(),
            endpoint: endpoint.clone(),
        };
        let released = Arc::clone(&follower.released);
        let own = provider.to_owned();
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                if let Ok(connection) = incoming.await {
                    let (own, script) = (own.clone(), Arc::clone(&script));
                    tokio::spawn(serve(connection, own, script, Arc::clone(&released)));
                }
            }
        });
        follower
    }

    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// Goes on to acknowledge.
    pub fn release(&self) {
        self.script().holds = false;
        self.released.notify_waiters();
    }

    /// Lets a member's KeyPackages be claimed.
    pub fn stock(&self, member: &mut Member, count: usize) {
        let packages = member.key_packages(count, &Default::default()).unwrap();
        let client = member.client().clone();
        let claimed = packages.into_iter().map(|package| ClaimedClient {
            client: client.clone(),
            result: Ok(Payload(package)),
        });
        let user = client.user().clone();
        self.script()
            .packages
            .entry(user)
            .or_default()
            .extend(claimed);
    }

    /// The numbers of the events that it took of a room, in the order in which they came.
    pub fn taken(&self, room: &RoomUri) -> Vec<u64> {
        self.script().taken.get(room).cloned().unwrap_or_default()
    }
}

fn config(dir: &Path, provider: &str) -> quinn::ServerConfig {
    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    let file = |end: &str| dir.join(format!("{provider}.{end}"));
    let pem = |path| CertificateDer::pem_file_iter(path).unwrap();
    let mut roots = RootCertStore::empty();
    for certificate in pem(dir.join("ca.crt")) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&crypto));
    let chain = pem(file("crt")).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(file("key")).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(crypto)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![LINK_ALPN.to_vec()];
    let config = QuicServerConfig::try_from(config).unwrap();
    quinn::ServerConfig::with_crypto(Arc::new(config))
}

async fn serve(
    connection: Connection,
    own: String,
    script: Arc<Mutex<Script>>,
    released: Arc<Notify>,
) {
    while let Ok((to, from)) = connection.accept_bi().await {
        let (own, script, released) = (own.clone(), Arc::clone(&script), Arc::clone(&released));
        tokio::spawn(async move {
            // A lane that ends early has nobody who waits for it.
            let _ = lane(to, from, &own, &script, &released).await;
        });
    }
}

async fn read(from: &mut RecvStream) -> Option<bytes::Bytes> {
    let mut length = [0; 4];
    from.read_exact(&mut length).await.ok()?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    from.read_exact(&mut frame).await.ok()?;
    Some(frame.into())
}

/// A value as a peer says it that knows the first version alone.
fn said<T: Versioned>(value: &T) -> Vec<u8> {
    raw::frame(&wire::encode_in(1, value, 256).unwrap())
}

async fn lane(
    mut to: SendStream,
    mut from: RecvStream,
    own: &str,
    script: &Mutex<Script>,
    released: &Notify,
) -> Option<()> {
    let open: Open = wire::decode(&read(&mut from).await?).ok()?;
    match open {
        Open::Control(_) => {
            let hello = Hello {
                versions: BVec::from([1]),
                node: 1,
                features: BVec::default(),
            };
            to.write_all(&said(&hello)).await.ok()?;
        }
        Open::Request(request) => {
            let Request::Claim(claim) = *request else {
                return None;
            };
            let asked = claim.users.iter().cloned().collect();
            script.lock().unwrap().claims.push(asked);
            let users = claim.users.iter().map(|user| claimed(script, user));
            let users = BVec::try_from(users.collect::<Vec<_>>()).unwrap();
            let reply = Reply::Claimed(ClaimResponse { users });
            to.write_all(&said(&reply)).await.ok()?;
        }
        Open::Fanout { .. } => {
            script.lock().unwrap().lanes.push(Instant::now());
            fanout(&mut to, &mut from, own, script, released).await?;
        }
        Open::Submit => {}
    }
    to.finish().ok()
}

fn claimed(script: &Mutex<Script>, user: &UserUri) -> ClaimedUser {
    let mut script = script.lock().unwrap();
    let next = script.packages.get_mut(user).and_then(Vec::pop);
    let client = next.unwrap_or_else(|| ClaimedClient {
        client: format!("{user}/none").parse().unwrap(),
        result: Err::<Payload, _>(ClientRefused::Exhausted),
    });
    ClaimedUser {
        user: user.clone(),
        result: Ok(BVec::from([client])),
    }
}

async fn fanout(
    to: &mut SendStream,
    from: &mut RecvStream,
    own: &str,
    script: &Mutex<Script>,
    released: &Notify,
) -> Option<()> {
    let mut session = FanoutReceiver::default();
    let (own, mut acked) = (own.parse().unwrap(), LinkSeq(0));
    let mut waiting = Vec::new();
    loop {
        let wake = released.notified();
        tokio::select! {
            batch = read(from) => {
                let batch: Fanout = wire::decode(&batch?).unwrap();
                let hub = batch.groups[0].room.hub().clone();
                if session.is_fresh() {
                    acked = LinkSeq(batch.first.0 - 1);
                }
                let breaks = script.lock().unwrap().breaks;
                if let Some(how) = breaks {
                    break_lane(how, &batch, to, from).await?;
                    script.lock().unwrap().broken += 1;
                    return Some(());
                }
                let upto = session.take(&hub, &own, &batch).expect("an honest hub");
                script.lock().unwrap().under_way += 1;
                waiting.push((upto, batch));
            }
            () = wake => {}
            // A release between two looks is seen here.
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
        if script.lock().unwrap().holds {
            continue;
        }
        for (upto, batch) in waiting.drain(..) {
            let ack = take(&mut script.lock().unwrap(), upto, acked, &batch);
            to.write_all(&said(&ack)).await.ok()?;
            if ack.retry_after_ms.is_some() {
                return Some(());
            }
            acked = upto;
        }
    }
}

async fn break_lane(
    how: Break,
    batch: &Fanout,
    to: &mut SendStream,
    from: &mut RecvStream,
) -> Option<()> {
    let ack = |upto| Ack {
        upto: LinkSeq(upto),
        refused: BVec::default(),
        credit_bytes: 1 << 20,
        retry_after_ms: None,
    };
    let answer = match how {
        Break::Resets => {
            from.stop(1_u32.into()).ok()?;
            return to.reset(1_u32.into()).ok();
        }
        Break::Garbage => raw::frame(&[0xff; 64]),
        Break::AcksAhead => said(&ack(batch.first.0 + 1_000)),
        Break::AcksBack => said(&ack(batch.first.0.saturating_sub(2))),
    };
    to.write_all(&answer).await.ok()?;
    // The hub ends a lane that is broken, or the follower does.
    let ended = tokio::time::timeout(Duration::from_secs(1), read(from)).await;
    drop(ended);
    Some(())
}

fn take(script: &mut Script, upto: LinkSeq, acked: LinkSeq, batch: &Fanout) -> Ack {
    script.under_way -= 1;
    let (credit_bytes, retry_after_ms) = (script.credit_bytes, script.retry_after_ms);
    if retry_after_ms.is_some() {
        return Ack {
            upto: acked,
            refused: BVec::default(),
            credit_bytes,
            retry_after_ms,
        };
    }
    let mut refused = Vec::new();
    for group in &batch.groups {
        if script.refuses.contains(&group.room) {
            *script.refused.entry(group.room.clone()).or_default() += group.items.len();
            refused.push(RoomRefused {
                room: group.room.clone(),
                detail: BText::clipped("frozen for the test"),
            });
            continue;
        }
        let numbers = group.items.iter().filter_map(|item| match item {
            Item::Event(event) => Some(event.seq.0),
            Item::Refused { .. } | Item::Refilled { .. } => None,
        });
        let taken = script.taken.entry(group.room.clone()).or_default();
        taken.extend(numbers);
        let items = group.items.iter().cloned();
        script
            .items
            .extend(items.map(|item| (group.room.clone(), item)));
    }
    Ack {
        upto,
        refused: BVec::try_from(refused).unwrap(),
        credit_bytes,
        retry_after_ms: None,
    }
}

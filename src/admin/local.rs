//! The local socket: the operator's requests to a running node, from the same machine and the same account.

use super::{
    change::{self, Refusal},
    ready::Ready,
    unwell,
};
use crate::{
    node::Node,
    peering::{outgoing, trouble::Trouble},
    preflight::not_in_the_way,
};
use anyhow::{Context, bail};
use mimi_actors::{
    ids::{ClientUri, UserUri},
    link::Peer,
    user::{desk as user_desk, fold::State},
    wire::user::Consent,
};
use mimi_operator::{
    ask::EXCHANGE_DEADLINE,
    protocol::{
        CertificateRow, Code, DeviceRow, PeerRow, Request, Response, ShardRow, Status, TroubleRow,
        UserRow,
    },
};
use std::{
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};

/// Longest request line, in bytes.
const REQUEST_LINE_BYTES_MAX: u64 = 16 << 10;
/// How long the request may take to come.
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);
/// Exchanges at a time, at most.
const EXCHANGES_MAX: usize = 32;
/// Shortest wait after a connection could not be taken.
const ACCEPT_BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Longest wait after a connection could not be taken.
const ACCEPT_BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Opens the socket, for its owner alone.
///
/// # Errors
/// When another node listens there, or the directory is not writable.
pub(crate) fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        bail!(
            "another node listens on {}; stop it or set node.admin_socket",
            path.display()
        );
    }
    // The socket must never be open to others, not even for a moment: it gets its name when it is closed to them.
    let staging = staging(path);
    for old in [path, &staging] {
        not_in_the_way(old)?;
        match std::fs::remove_file(old) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).context(format!("remove the old {}", old.display())),
        }
    }
    let listener =
        UnixListener::bind(&staging).with_context(|| format!("listen on {}", path.display()))?;
    std::fs::set_permissions(&staging, std::fs::Permissions::from_mode(0o600))
        .and_then(|()| std::fs::rename(&staging, path))
        .with_context(|| format!("listen on {}", path.display()))?;
    Ok(listener)
}

/// What a socket is called until it is closed to others.
pub(crate) fn staging(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Serves the socket until the node stops. A fault of one connection, or a lack of descriptors, ends none of it.
pub(crate) async fn serve(listener: UnixListener, node: Arc<Node>, ready: Arc<Ready>) {
    let places = Arc::new(Semaphore::new(EXCHANGES_MAX));
    let mut faults = Faults::default();
    loop {
        // The semaphore is never closed. Whoever has no place yet waits in the system's queue.
        let place = Arc::clone(&places).acquire_owned().await;
        let stream = match listener.accept().await {
            Ok((stream, _)) => {
                faults.over();
                stream
            }
            Err(error) => {
                tokio::time::sleep(faults.wait(&error)).await;
                continue;
            }
        };
        let (node, ready) = (Arc::clone(&node), Arc::clone(&ready));
        tokio::spawn(async move {
            let _place = place;
            let exchange = exchange(stream, &node, &ready);
            match tokio::time::timeout(EXCHANGE_DEADLINE, exchange).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(error)) => tracing::debug!(%error, "an exchange on the local socket failed"),
            }
        });
    }
}

/// The faults of a listener in a row: the first is told, and each next one is waited for longer.
#[derive(Default)]
struct Faults {
    in_a_row: u32,
}

impl Faults {
    /// How long to wait before the next attempt.
    fn wait(&mut self, error: &std::io::Error) -> Duration {
        if self.in_a_row == 0 {
            tracing::warn!(
                %error,
                "the operator's socket takes no connection now; it is tried again until it does"
            );
        }
        let wait = ACCEPT_BACKOFF_MIN.saturating_mul(2_u32.saturating_pow(self.in_a_row));
        self.in_a_row = self.in_a_row.saturating_add(1);
        wait.min(ACCEPT_BACKOFF_MAX)
    }

    fn over(&mut self) {
        if self.in_a_row > 0 {
            let attempts = self.in_a_row;
            tracing::info!(attempts, "the operator's socket takes connections again");
        }
        self.in_a_row = 0;
    }
}

async fn exchange(stream: UnixStream, node: &Node, ready: &Ready) -> anyhow::Result<()> {
    let (from, mut to) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(from.take(REQUEST_LINE_BYTES_MAX));
    // Who says nothing gives its place up.
    tokio::time::timeout(REQUEST_DEADLINE, reader.read_line(&mut line)).await??;
    let response = match serde_json::from_str::<Request>(&line) {
        Ok(request) => answer(node, ready, request).await,
        Err(error) => refused(&anyhow::anyhow!("the request does not read: {error}")),
    };
    let mut line = serde_json::to_vec(&response)?;
    line.push(b'\n');
    Ok(to.write_all(&line).await?)
}

fn refused(error: &anyhow::Error) -> Response {
    let why = format!("{error:#}");
    let refusal = error.downcast_ref::<Refusal>();
    Response::Refused {
        why,
        code: refusal.map_or(Code::Refused, |refusal| refusal.code),
        retry_after_ms: refusal.and_then(|refusal| refusal.retry_after_ms),
    }
}

async fn answer(node: &Node, ready: &Ready, request: Request) -> Response {
    let provider = &node.shards.environment().provider;
    let local = |user: &str| {
        UserUri::new(provider, user).map_err(|error| anyhow::anyhow!("{user}: {error}"))
    };
    let done = match request {
        Request::AddUser { user } => match local(&user) {
            Ok(user) => change::add_user(node, user).await.map_err(Into::into),
            Err(error) => Err(error),
        },
        Request::DeleteUser { user } => match local(&user) {
            Ok(user) => change::delete_user(node, &user).await.map_err(Into::into),
            Err(error) => Err(error),
        },
        Request::Consent {
            user,
            requester,
            room,
            grant,
        } => match local(&user) {
            Ok(user) => {
                let consent = Consent {
                    requester,
                    room,
                    grant,
                };
                let consented = change::consent(node, &user, consent).await;
                consented.map_err(Into::into)
            }
            Err(error) => Err(error),
        },
        Request::RevokeDevice { client } => change::revoke(node, client).await.map_err(Into::into),
        Request::ListUsers => list_users(node).await,
        Request::Status => Ok(Response::Status(status(node, ready).await)),
        Request::Parked { provider } => Ok(super::parked::list(node, provider.as_ref())),
        Request::Redrive { provider, room } => {
            let redriven = change::redrive(node, &provider, &room).await;
            redriven.map_err(Into::into)
        }
        Request::Owed { provider } => Ok(super::forget::owed(node, &provider)),
        Request::ForgetPeer {
            provider,
            items_max,
        } => {
            let forgotten = super::forget::forget(node, &provider, items_max).await;
            forgotten.map_err(Into::into)
        }
        Request::Cluster => super::cluster::status(node),
        Request::LookChange { shard, wish } => super::cluster::look(node, shard, wish).await,
        Request::BeginChange { id, wish } => super::cluster::begin(node, id, wish).await,
        Request::CarryChange { id, shard, wish } => {
            super::cluster::carry(node, id, shard, wish).await
        }
        Request::EndChange { id } => super::cluster::end(node, id).await,
        Request::CheckCluster => super::cluster::check(node).await,
    };
    done.unwrap_or_else(|error| refused(&error))
}

async fn list_users(node: &Node) -> anyhow::Result<Response> {
    let mut users = Vec::new();
    for shard in node.shards.iter() {
        let known: Vec<UserUri> = shard.actors.of::<user_desk::Desk>().lock().await.keys();
        for user in known {
            let name = user.clone();
            let row = shard.look::<user_desk::Desk, _>(&user, move |fold| {
                let device = |client: &ClientUri| DeviceRow {
                    client: client.clone(),
                    key_packages: fold.stock(client),
                    rooms: fold.memberships(client).count(),
                };
                let (deleted, devices) = match fold.state() {
                    State::Absent => return None,
                    State::Active => (false, fold.clients().map(device).collect()),
                    State::Deleted => (true, Vec::new()),
                };
                Some(UserRow {
                    user: name,
                    deleted,
                    devices,
                    consents: fold.consents().count(),
                })
            });
            users.extend(row.await?);
        }
    }
    users.sort_by(|a, b| a.user.cmp(&b.user));
    Ok(Response::Users { users })
}

async fn status(node: &Node, ready: &Ready) -> Status {
    let (actors_awake, actors_asleep) = node.shards.counts().await;
    let hashes = node.shards.state_hashes().await;
    let shards = (0_u16..).zip(hashes);
    let log = node.log_figures();
    let peers = node.peers.iter().map(|(provider, peer)| {
        let owed = node.shards.iter().map(|shard| {
            let derived = shard.looked_at();
            let link = derived.links.outgoing(&Peer::Provider(provider.clone()));
            link.map_or(0, |link| link.last().0 - link.acked().0)
        });
        PeerRow {
            provider: provider.to_string(),
            connected: peer.is_connected(),
            unacknowledged: owed.sum(),
            frames_sent: peer.credits().sent().0,
            items_sent: peer.credits().sent().1,
            submit_frames_sent: peer.credits().submitted().0,
            submissions_sent: peer.credits().submitted().1,
            troubles: troubles(peer),
        }
    });
    Status {
        provider: node.shards.environment().provider.to_string(),
        node: node.id,
        pid: std::process::id(),
        log_bytes: log.bytes,
        log_bytes_max: log.bytes_max,
        log_syncs: log.syncs,
        log_entries: log.entries,
        actors_awake,
        actors_asleep,
        peers: peers.collect(),
        shards: shards
            .map(|(shard, (applied, hash))| ShardRow {
                shard,
                applied,
                state_hash: hash.to_string(),
                level: node
                    .shards
                    .get(shard)
                    .map_or_else(String::new, |shard| shard.level().to_string()),
            })
            .collect(),
        certificates: node
            .certificates
            .iter()
            .map(|certificate| CertificateRow {
                key: certificate.key.clone(),
                ends_at_s: certificate.ends_at_s,
            })
            .collect(),
        unwell: unwell::look(node, ready),
    }
}

fn troubles(peer: &outgoing::Peer) -> Vec<TroubleRow> {
    let troubles = peer.troubles().into_iter();
    let row = |(address, trouble): (String, Trouble)| TroubleRow {
        address,
        why: trouble.why,
        since_s: trouble.since_s,
        attempts: trouble.attempts,
    };
    troubles.map(row).collect()
}
